//! Upstreams: sets of targets with an algorithm and a health policy.

use std::net::SocketAddr;
use std::time::Duration;

/// One of `upstreams:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Unique among upstreams.
    pub name: String,
    /// How a backend is chosen.
    pub algorithm: AlgorithmName,
    /// Never empty; no address twice.
    pub targets: Vec<Target>,
    /// How targets are probed; `None` is not at all, and every target counts as up.
    pub health: Option<ActiveCheck>,
    /// How long a VIP's backend takes to its full share, or away from it; zero is at once.
    pub slow_start: Duration,
}

/// A configured member of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share among the targets.
    pub weight: Weight,
    /// What QUIC connection ids call it, for VIPs that go by them.
    pub server_id: Option<u16>,
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
    /// The backend with the fewest open requests for its weight.
    LeastRequests,
}

impl AlgorithmName {
    /// Every algorithm with the word users type for it.
    pub const NAMES: [(&'static str, Self); 2] =
        [("round-robin", Self::RoundRobin), ("least-requests", Self::LeastRequests)];
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
    /// `GET path`; 200–399 is good.
    Http {
        /// Absolute path, as it goes on the request line.
        path: String,
    },
    /// A TCP connection that opens is good.
    Tcp,
}
