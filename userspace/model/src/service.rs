//! Services: how the backends of an upstream are spoken to.

use std::time::Duration;

use crate::ClientTls;

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
    /// When a request is sent once more.
    pub retries: Retries,
    /// After how long without an answer a request is also sent to another backend; `None` is never.
    pub hedge: Option<Duration>,
    /// Requests with a body of at most this many bytes are gathered before they are sent.
    pub buffer_request: Option<u64>,
}

impl Service {
    /// A service of that upstream, with defaults for everything else.
    #[must_use]
    pub fn new(name: impl Into<String>, upstream: usize) -> Self {
        Self {
            name: name.into(),
            upstream,
            protocol: ServiceProtocol::default(),
            tls: None,
            proxy_protocol: None,
            timeouts: ServiceTimeouts::default(),
            retries: Retries::default(),
            hedge: None,
            buffer_request: None,
        }
    }
}

/// When a request is sent once more. A backend that cannot be reached is passed over in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often a request is sent at most, besides the first time.
    pub attempts: u32,
    /// What calls for it.
    pub on: Vec<RetryOn>,
    /// At most this percentage of requests, over all reactors.
    pub budget: u32,
    /// How long an attempt may take to the head of its answer; `None` is as long as the whole.
    pub per_try: Option<Duration>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 1,
            on: vec![RetryOn::ConnectFailure, RetryOn::Reset],
            budget: 20,
            per_try: None,
        }
    }
}

/// What calls for another attempt. Requests that may have been acted on are only sent again where that
/// does no harm: GET, HEAD, OPTIONS, TRACE, PUT and DELETE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection, or it was closed before it took a byte.
    ConnectFailure,
    /// The connection broke before an answer began.
    Reset,
    /// No answer within `per-try` or `response`.
    Timeout,
    /// An answer of this status.
    Status(u16),
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
    /// For a connection or a request that is to be free, where the upstream has limits; then 503.
    pub queue: Duration,
    /// From the request to the end of its answer; then it is cut, or answered 504. `None` is any.
    pub request: Option<Duration>,
}

impl Default for ServiceTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            queue: Duration::from_secs(1),
            request: None,
        }
    }
}
