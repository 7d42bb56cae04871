//! VIPs: addresses that the kernel side balances over an upstream.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// One of `vips:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Unique among VIPs.
    pub name: String,
    /// What clients send to.
    pub address: IpAddr,
    /// The port; `None` is all of them.
    pub port: Option<NonZeroU16>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Index into `Config::upstreams`.
    pub upstream: usize,
    /// How packets go to backends.
    pub forward: Forward,
    /// What of a packet decides on its backend.
    pub hash: HashBy,
    /// How long a flow that is silent keeps its backend while slots move.
    pub idle: Duration,
}

impl Vip {
    /// `idle` of TCP unless configured.
    pub const IDLE_TCP: Duration = Duration::from_secs(15 * 60);
    /// `idle` of UDP unless configured.
    pub const IDLE_UDP: Duration = Duration::from_secs(60);
}

impl std::fmt::Display for Vip {
    /// As the configuration writes it: `192.0.2.1:53/udp`, `[2001:db8::1]:*/tcp`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = self.protocol.name();
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:")?,
            IpAddr::V6(address) => write!(f, "[{address}]:")?,
        }
        match self.port {
            Some(port) => write!(f, "{port}/{protocol}"),
            None => write!(f, "*/{protocol}"),
        }
    }
}

/// What a VIP speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Every one with the word users type for it.
    pub const NAMES: [(&'static str, Self); 2] = [("tcp", Self::Tcp), ("udp", Self::Udp)];

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        word(&Self::NAMES, self)
    }

    /// As IP numbers it.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// How packets go to backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Inside another IP packet.
    Ipip,
    /// Inside UDP, by Generic UDP Encapsulation.
    Gue,
    /// As they are, to the backend's Ethernet address.
    L2,
    /// With the backend as destination; answers come back through us.
    Nat,
}

impl Forward {
    /// Every one with the word users type for it.
    pub const NAMES: [(&'static str, Self); 4] =
        [("ipip", Self::Ipip), ("gue", Self::Gue), ("l2", Self::L2), ("nat", Self::Nat)];

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        word(&Self::NAMES, self)
    }
}

/// What of a packet decides on its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashBy {
    /// Addresses, ports and protocol.
    FiveTuple,
    /// The client's address: all its flows go to one backend.
    Source,
    /// The server's id in QUIC connection ids.
    QuicCid,
}

impl HashBy {
    /// Every one with the word users type for it.
    pub const NAMES: [(&'static str, Self); 3] =
        [("5-tuple", Self::FiveTuple), ("source", Self::Source), ("quic-cid", Self::QuicCid)];

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        word(&Self::NAMES, self)
    }
}

fn word<T: PartialEq + Copy>(names: &[(&'static str, T)], own: T) -> &'static str {
    names.iter().find(|(_, value)| *value == own).map_or("", |(word, _)| word)
}
