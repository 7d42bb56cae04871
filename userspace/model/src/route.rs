//! Routes and the services they lead to.

use std::time::Duration;

use crate::ClientTls;

/// One of `routes:`: a request that matches host and path goes to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Unique among routes.
    pub name: String,
    /// Any of these hosts; empty is every host.
    pub hosts: Vec<HostPattern>,
    /// Any of these paths; empty is every path.
    pub paths: Vec<PathPattern>,
    /// Index into `Config::services`.
    pub service: usize,
}

/// Which hosts a route serves. Names are lower case, without port and without trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `api.example.com`
    Exact(String),
    /// `*.example.com`: holds `.example.com`; one label or more stands before it.
    Suffix(String),
}

/// Which paths a route serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// `= /exact`: this path alone.
    Exact(String),
    /// `/v1`: this path and all below it (`/v1`, `/v1/x`, not `/v10`); `/v1/` all below it.
    Prefix(String),
    /// `~ ^/v[0-9]+/items$`: a regular expression that is known to compile.
    Regex(String),
}

/// One of `services:`: policy and upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// Index into `Config::upstreams`.
    pub upstream: usize,
    /// What its backends speak.
    pub protocol: ServiceProtocol,
    /// How connections to backends are encrypted; `None` is not at all.
    pub tls: Option<ClientTls>,
    /// Connections to backends begin with a PROXY protocol header of this version.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How long a backend may take.
    pub timeouts: ServiceTimeouts,
}

/// What backends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ServiceProtocol {
    /// HTTP/1.1
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    Http2,
}

impl ServiceProtocol {
    /// Every protocol with the word users type for it.
    pub const NAMES: [(&'static str, Self); 2] = [("http1", Self::Http1), ("http2", Self::Http2)];
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyVersion {
    /// Every version with the word users type for it.
    pub const NAMES: [(&'static str, Self); 2] = [("v1", Self::V1), ("v2", Self::V2)];
}

/// How long a backend may take over each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceTimeouts {
    /// To accept a connection; then another backend is tried, then 504.
    pub connect: Duration,
    /// From the request to the head of its answer; then 504.
    pub response: Duration,
    /// Between two reads or writes of a body; then the exchange is cut.
    pub idle: Duration,
}

impl Default for ServiceTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(60),
        }
    }
}
