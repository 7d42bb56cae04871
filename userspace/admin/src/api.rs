//! What the admin API says, as the server writes it and the command line reads it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// `GET /status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the running binary.
    pub version: String,
    /// Of the running process.
    pub pid: u32,
    /// Whole seconds since it started.
    pub uptime_seconds: u64,
    /// How many configurations were applied.
    pub generation: u64,
    /// Whether it takes requests.
    pub ready: bool,
    /// Whether it is stopping.
    pub draining: bool,
    /// Threads that serve traffic.
    pub reactors: usize,
    /// The kernel side; absent where it is off.
    pub kernel: Option<Kernel>,
    /// Where `/metrics`, `/live` and `/ready` are served.
    pub status_address: Option<SocketAddr>,
    /// In the order of the configuration.
    pub listeners: Vec<Listener>,
    /// In the order of the configuration.
    pub upstreams: Vec<Upstream>,
    /// What became of requests.
    pub requests: Requests,
}

/// The XDP side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// `driver` if every interface is in driver mode, else `generic`.
    pub mode: String,
    /// Where the program is attached.
    pub interfaces: Vec<Interface>,
    /// Prefixes banned.
    pub bans: usize,
    /// Prefixes that no ban touches.
    pub allowed: usize,
    /// Packets by verdict and reason.
    pub verdicts: Vec<Verdict>,
}

/// An interface with the program attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `driver` or `generic`.
    pub mode: String,
}

/// How many packets ended so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// `pass` or `drop`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Packets since the program was loaded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it is bound.
    pub address: SocketAddr,
    /// Open client connections.
    pub connections: u32,
}

/// An upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// How it chooses.
    pub algorithm: String,
    /// In the order of the configuration.
    pub backends: Vec<Backend>,
}

/// A backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share.
    pub weight: u32,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Requests sent to it.
    pub requests: u64,
    /// Requests that it failed to answer.
    pub failures: u64,
    /// Requests that it has not answered yet.
    pub open: u32,
}

/// What became of requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Requests {
    /// All of them.
    pub total: u64,
    /// Those sent to a second backend.
    pub retries: u64,
    /// Those that Weir answered itself, by reason; reasons that did not occur are left out.
    pub refused: Vec<Refused>,
}

/// How many requests were refused for a reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// A list: `{"data": […]}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// All of it.
    pub data: Vec<T>,
}

/// One of `GET /bans`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ban {
    /// The prefix.
    pub cidr: String,
    /// Who asked for it: `operator`, or `list NAME`.
    pub origin: String,
    /// Why; may be empty.
    pub reason: String,
    /// Whole seconds until it ends; absent if it does not.
    pub ends_in_seconds: Option<u64>,
}

/// Body of `POST /bans`, and of `DELETE /bans` and `/allow` with `cidrs` alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The prefixes.
    pub cidrs: Vec<String>,
    /// How long a ban lasts, as in the configuration: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// What a change did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// Prefixes that are in force and were not before.
    pub added: usize,
    /// Prefixes that are not in force any more.
    pub removed: usize,
    /// Prefixes in force now.
    pub total: usize,
    /// Lines of a list that are no prefix.
    #[serde(default)]
    pub skipped: usize,
    /// The first of them: line, text and why.
    #[serde(default)]
    pub skipped_lines: Vec<String>,
    /// Until it was in force.
    pub milliseconds: f64,
}

/// `GET /bans/test/{ip}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Test {
    /// What was asked.
    pub ip: IpAddr,
    /// `pass` or `drop`.
    pub verdict: String,
    /// `clean`, `allowed` or `banned`.
    pub reason: String,
    /// The ban that decides, or that the allow list overrules.
    pub ban: Option<Ban>,
    /// The allowed prefix that decides.
    pub allowed_by: Option<String>,
}

/// `POST /reload` and `POST /stop`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The generation in force.
    pub generation: u64,
    /// What happened, in a sentence.
    pub message: String,
}

/// Any answer that is no success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What failed, and what to do.
    pub message: String,
    /// The inputs at fault, each with what is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}
