//! The nouns of Weir: what a configuration says, as final types. No I/O, no clock, no dependencies.
//!
//! A value that exists is valid: text is parsed into these types by `weir-config` (files) and by
//! their `FromStr` (one word of a command line), and never checked again.
#![forbid(unsafe_code)]

mod ban;
mod cidr;
mod config;
mod guard;
mod kernel;
mod listener;
mod route;
mod service;
mod tls;
mod upstream;
mod vip;

pub use ban::{Ban, BanOrigin};
pub use cidr::{Cidr, ParseCidrError};
pub use config::{Admin, Config, LogLevel};
pub use guard::{Guard, GuardBan, GuardKey, RuleMode, SynGuard};
pub use kernel::{BanFile, Bans, Kernel, KernelMode, Tunnel};
pub use listener::{Also, Limits, Listener, Serves, Timeouts};
pub use route::{
    Action, Compress, Conditions, Encoding, HeaderEdits, HostPattern, Mirror, PathPattern,
    Redirect, Respond, Rewrite, Route, Share, Split, SplitOn, ValuePattern,
};
pub use service::{ProxyVersion, Retries, RetryOn, Service, ServiceProtocol, ServiceTimeouts};
pub use tls::{CertificateFiles, ClientAuth, ClientTls, ServerTls, TlsVersion};
pub use upstream::{
    ActiveCheck, AlgorithmName, CheckKind, HashOn, PassiveCheck, SameSite, Statuses, Sticky,
    Target, Upstream, UpstreamLimits, Weight,
};
pub use vip::{Forward, HashBy, Protocol, Vip};
