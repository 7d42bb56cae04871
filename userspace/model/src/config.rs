//! A whole configuration: every name resolved, every default filled in.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Kernel, Listener, Route, Service, Upstream, Vip};

/// What `weir.yaml` says. A `Config` that exists is valid: indices point inside, names are unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The XDP side.
    pub kernel: Kernel,
    /// What the kernel side balances.
    pub vips: Vec<Vip>,
    /// What the reactors serve; empty only where there are VIPs.
    pub listeners: Vec<Listener>,
    /// In the order of the file; the most specific match wins, equal ones in order.
    pub routes: Vec<Route>,
    /// What routes lead to.
    pub services: Vec<Service>,
    /// Where services lead to.
    pub upstreams: Vec<Upstream>,
    /// Where this host is; `None` is nowhere in particular, and every target is near.
    pub zone: Option<String>,
    /// Where the operator's commands arrive.
    pub admin: Admin,
    /// Where `/metrics`, `/live` and `/ready` are served; `None` is nowhere.
    pub status: Option<SocketAddr>,
    /// Threads that serve traffic; `None` is one a core.
    pub reactors: Option<NonZeroUsize>,
    /// How long a graceful stop waits for open requests.
    pub drain_timeout: Duration,
    /// Folder that keeps what was changed live; `None` is nowhere.
    pub state: Option<PathBuf>,
    /// The least severe event that is logged.
    pub log: LogLevel,
}

impl Config {
    /// Where state is kept unless configured.
    pub const STATE_DEFAULT: &'static str = "/var/lib/weir";
}

/// The `admin:` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// TCP address of the admin API; `None` is the socket only.
    pub address: Option<SocketAddr>,
    /// Unix socket of the admin API, mode 0600.
    pub socket: PathBuf,
}

impl Admin {
    /// Where the admin socket is unless configured.
    pub const SOCKET_DEFAULT: &'static str = "/run/weir/admin.sock";
}

/// How much is logged to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Only what stops Weir from doing its job.
    Error,
    /// What an operator should look into.
    Warn,
    /// What changes: start, reload, health, bans.
    #[default]
    Info,
    /// Also sampled drops of the kernel side.
    Debug,
}

impl LogLevel {
    /// Every level with the word users type for it.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];
}
