//! What the kernel side is told of VIPs, and what it tells.

use std::net::SocketAddr;
use std::time::Duration;

use weir_model::{Guard, Protocol, Tunnel, Vip};

/// All VIPs with the state of their backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The VIPs; their `upstream` is an index into `pools`.
    pub vips: Vec<Vip>,
    /// The upstreams.
    pub pools: Vec<Pool>,
    /// Where this host listens itself, by name; an unspecified address is every one that it has.
    pub listeners: Vec<(String, SocketAddr)>,
    /// What packets are wrapped in.
    pub tunnel: Tunnel,
    /// What floods meet.
    pub guard: Guard,
}

/// The backends of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The upstream's name.
    pub name: String,
    /// How long weights take to change.
    pub slow_start: Duration,
    /// Its backends.
    pub members: Vec<PoolMember>,
}

/// A backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolMember {
    /// Its own address.
    pub address: SocketAddr,
    /// Its share; 0 gets no new flows.
    pub weight: u32,
    /// Whether it may get packets at all.
    pub is_up: bool,
    /// What QUIC connection ids call it.
    pub server_id: Option<u16>,
}

/// A health probe that takes a VIP's way to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipProbe {
    /// The VIP: of the backend's family, and not forwarded by NAT.
    pub vip: Vip,
    /// The backend's own address, which the probe's socket is connected to.
    pub backend: SocketAddr,
}

/// A VIP's counters since it is in force, and what its slots do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipStats {
    /// The VIP.
    pub vip: Vip,
    /// Whether listeners of this host serve new flows.
    pub is_local: bool,
    /// Packets that came for it.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// TCP connections that began.
    pub flows: u64,
    /// Packets in slots that were moving.
    pub moving_packets: u64,
    /// Packets that were dropped, with the reason.
    pub drops: Vec<(&'static str, u64)>,
    /// Slots that are moving now.
    pub moving_slots: usize,
    /// Its backends, by address.
    pub backends: Vec<BackendStats>,
}

/// A backend's counters, for all VIPs that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendStats {
    /// Its own address.
    pub address: SocketAddr,
    /// Whether it gets packets.
    pub is_up: bool,
    /// Slots of this VIP that are its own.
    pub slots: usize,
    /// Packets that were sent to it.
    pub packets: u64,
    /// Their bytes as they came.
    pub bytes: u64,
    /// TCP connections that began.
    pub flows: u64,
    /// Packets in slots that were moving.
    pub moving_packets: u64,
}

/// A flow that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowQuestion {
    /// The client.
    pub source: SocketAddr,
    /// What it sends to.
    pub destination: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The stages in their order, each with what it decides.
    pub stages: Vec<(&'static str, String)>,
    /// Where its next packet goes; `None` is not to a backend.
    pub backend: Option<SocketAddr>,
}
