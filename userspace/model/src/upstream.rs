//! Upstreams: sets of targets with an algorithm and a health policy.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One of `upstreams:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Unique among upstreams.
    pub name: String,
    /// How a backend is chosen.
    pub algorithm: AlgorithmName,
    /// What algorithms that hash go by.
    pub hash_on: HashOn,
    /// The most open requests of a backend in percent of its share, for `consistent-hash`; `None` is
    /// any number.
    pub hash_balance: Option<u32>,
    /// Never empty; no address twice.
    pub targets: Vec<Target>,
    /// How targets are probed; `None` is not at all, and every target counts as up.
    pub health: Option<ActiveCheck>,
    /// When targets are ejected for how they answer; `None` is never.
    pub passive: Option<PassiveCheck>,
    /// How much may be under way to all targets together.
    pub limits: UpstreamLimits,
    /// How clients stay with a target; `None` is not at all.
    pub sticky: Option<Sticky>,
    /// How long a backend takes to its full share; a VIP's one also away from it. Zero is at once.
    pub slow_start: Duration,
}

impl Upstream {
    /// An upstream of these targets that asks for nothing else.
    #[must_use]
    pub fn new(name: impl Into<String>, targets: Vec<Target>) -> Self {
        Self {
            name: name.into(),
            algorithm: AlgorithmName::default(),
            hash_on: HashOn::default(),
            hash_balance: None,
            targets,
            health: None,
            passive: None,
            limits: UpstreamLimits::default(),
            sticky: None,
            slow_start: Duration::ZERO,
        }
    }
}

/// A configured member of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share among the targets.
    pub weight: Weight,
    /// Lower ones are used first; others only where those have too little left.
    pub priority: u8,
    /// Where it is; `None` is near from everywhere.
    pub zone: Option<String>,
    /// What QUIC connection ids call it, for VIPs that go by them.
    pub server_id: Option<u16>,
}

impl Target {
    /// A target of the usual weight that nothing else is said of.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, weight: Weight::default(), priority: 0, zone: None, server_id: None }
    }
}

/// A share: 0 to 65,535; 100 where none is given. Who has 0 keeps what it has, and gets nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub u16);

impl Weight {
    /// The share as a number.
    #[must_use]
    pub fn value(self) -> u32 {
        u32::from(self.0)
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(100)
    }
}

/// The algorithms that `weir-balance` implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AlgorithmName {
    /// In turn, in proportion to the weights.
    #[default]
    RoundRobin,
    /// Of two at random, the backend with fewer open requests for its weight.
    LeastRequests,
    /// Of two at random, the backend that is expected to answer sooner.
    PeakEwma,
    /// At random, in proportion to the weights.
    Random,
    /// By a hash, on a ring.
    ConsistentHash,
    /// By a hash, from a Maglev table.
    Maglev,
}

impl AlgorithmName {
    /// Every algorithm with the word users type for it.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("round-robin", Self::RoundRobin),
        ("least-requests", Self::LeastRequests),
        ("peak-ewma", Self::PeakEwma),
        ("random", Self::Random),
        ("consistent-hash", Self::ConsistentHash),
        ("maglev", Self::Maglev),
    ];

    /// Whether it goes by a hash of the request.
    #[must_use]
    pub fn hashes(self) -> bool {
        matches!(self, Self::ConsistentHash | Self::Maglev)
    }
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum HashOn {
    /// The client's address.
    #[default]
    Source,
    /// The path without its query.
    Path,
    /// The value of a header, by its name in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The value of a parameter of the query.
    Query(String),
}

impl HashOn {
    /// Those that are a word, with the word.
    pub const NAMES: [(&'static str, Self); 2] = [("source", Self::Source), ("path", Self::Path)];
}

/// `sticky:` of an upstream: a cookie names the backend that a client stays with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: String,
    /// How long clients keep it; `None` is until they end their session.
    pub ttl: Option<Duration>,
    /// Under which paths clients send it.
    pub path: String,
    /// Whether they send it over TLS only.
    pub secure: bool,
    /// Whether scripts cannot see it.
    pub http_only: bool,
    /// Whether they send it with requests that other sites cause.
    pub same_site: SameSite,
}

/// `SameSite` of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SameSite {
    /// Where a link of another site is followed.
    #[default]
    Lax,
    /// Never.
    Strict,
    /// Always.
    None,
}

impl SameSite {
    /// Every value with the word users type for it.
    pub const NAMES: [(&'static str, Self); 3] =
        [("lax", Self::Lax), ("strict", Self::Strict), ("none", Self::None)];

    /// The word of a `Set-Cookie` header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }
}

/// `limits:` of an upstream, over all reactors; `None` is without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UpstreamLimits {
    /// Open connections to its backends, idle ones included.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests that are not answered in full.
    pub requests: Option<u32>,
}

/// `health.passive:` of an upstream: a backend whose answers are bad is left out for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveCheck {
    /// Errors of any kind in a row that eject a backend.
    pub consecutive_errors: u32,
    /// 502, 503, 504 and failures to get an answer in a row that do; `None` is no number of them.
    pub consecutive_gateway_errors: Option<u32>,
    /// So much time in use takes one ejection off the count that lengthens the next.
    pub interval: Duration,
    /// How long the first ejection is; the second is twice as long, and so on.
    pub base_ejection: Duration,
    /// How long the longest one is.
    pub max_ejection: Duration,
    /// The most backends that are ejected at a time, in percent; one of two or more always may be.
    pub max_ejected: u32,
}

impl Default for PassiveCheck {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            consecutive_gateway_errors: None,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejected: 50,
        }
    }
}

/// `health.active:` of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveCheck {
    /// What a probe does.
    pub kind: CheckKind,
    /// The VIP, by name, whose way to the target probes take; `None` is to the target's own address.
    pub vip: Option<String>,
    /// Between two probes of a target.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Good probes in a row that bring a target up.
    pub rise: u32,
    /// Bad probes in a row that take a target down.
    pub fall: u32,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// `GET path`; some statuses are good.
    Http {
        /// Absolute path, as it goes on the request line.
        path: String,
        /// What the header `Host` says; `None` is the target's address.
        host: Option<String>,
        /// Which statuses are good.
        statuses: Statuses,
    },
    /// `grpc.health.v1.Health/Check` over HTTP/2; SERVING is good.
    Grpc {
        /// Which service is asked for; the empty one is the whole server.
        service: String,
    },
    /// A TCP connection that opens is good.
    Tcp,
}

/// Ranges of statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub Vec<RangeInclusive<u16>>);

impl Statuses {
    /// Whether a status is among them.
    #[must_use]
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![200..=399])
    }
}
