//! A listener: a bound socket that the reactors serve, with its limits.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use crate::{Cidr, ServerTls};

/// One of `listeners:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique among listeners.
    pub name: String,
    /// Where it is bound.
    pub address: SocketAddr,
    /// What it serves besides, without being bound to it.
    pub also: Vec<Also>,
    /// What is spoken on it.
    pub serves: Serves,
    /// How connections are encrypted; `None` is not at all.
    pub tls: Option<ServerTls>,
    /// Connections begin with a PROXY protocol header that names the client.
    pub proxy_protocol: bool,
    /// What a client may take up.
    pub limits: Limits,
    /// How long a client may take.
    pub timeouts: Timeouts,
}

/// Addresses and ports of a listener that it is not bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Also {
    /// The addresses.
    pub cidr: Cidr,
    /// The lowest port.
    pub first_port: NonZeroU16,
    /// The highest.
    pub last_port: NonZeroU16,
}

impl Also {
    /// How many all listeners together may have: the kernel's side looks at one after the other.
    pub const MAX: usize = 128;
}

/// What a listener speaks with its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Requests, which routes lead to services.
    Http {
        /// HTTP/1.0 and HTTP/1.1.
        http1: bool,
        /// HTTP/2: by ALPN over TLS, by prior knowledge without.
        http2: bool,
    },
    /// Bytes; the index of the service in `Config::services` that gets all of them.
    Tcp {
        /// Index into `Config::services`.
        service: usize,
    },
    /// TLS that the backend terminates; routes lead to services by the name that the client asks for.
    TlsPassthrough,
}

impl Default for Serves {
    fn default() -> Self {
        Self::Http { http1: true, http2: false }
    }
}

/// Bounds on what clients of a listener can make grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections over all reactors; more are closed at once.
    pub connections: u32,
    /// Bytes of a request's head (request line and header fields); more is answered 431.
    pub header_size: usize,
    /// Header fields of a request; more is answered 431.
    pub headers: usize,
    /// Bytes of a request's body, more is answered 413; `None` is unlimited.
    pub body_size: Option<u64>,
    /// Requests on one connection, after which it is closed; `None` is unlimited.
    pub requests: Option<u64>,
}

impl Limits {
    /// The largest `header-size` that may be configured: 256 KiB.
    pub const HEADER_SIZE_MAX: usize = 256 * 1024;
    /// The smallest `header-size` that may be configured: 1 KiB.
    pub const HEADER_SIZE_MIN: usize = 1024;
    /// The largest `headers` that may be configured.
    pub const HEADERS_MAX: usize = 256;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            header_size: 32 * 1024,
            headers: 100,
            body_size: None,
            requests: None,
        }
    }
}

/// How long a client may take over each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request to the end of its head; then 408.
    pub header: Duration,
    /// Between two reads of a request's body; then 408.
    pub body: Duration,
    /// Between two writes of an answer that the client is slow to take; then the connection is cut.
    pub write: Duration,
    /// Without a request on an open connection; then it is closed.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            idle: Duration::from_secs(60),
        }
    }
}
