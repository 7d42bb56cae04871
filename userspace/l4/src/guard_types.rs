//! What is told of the flood guard.

use std::time::Duration;

/// A VIP or listener that is guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// The VIP's name, or the listener's.
    pub name: String,
    /// Where clients send to.
    pub address: String,
    /// Whether sockets of this host answer what begins now.
    pub is_local: bool,
    /// Whether it is a VIP: then what began earlier may go elsewhere.
    pub is_vip: bool,
    /// Its numbers in the kernel's maps: one an address.
    pub numbers: Vec<u16>,
}

/// One of them has become calmer, or less so.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardChange {
    /// Its name.
    pub name: String,
    /// Where clients send to.
    pub address: String,
    /// `off`, `calm`, `watch` or `attack`.
    pub from: &'static str,
    /// The same.
    pub to: &'static str,
    /// SYNs a second.
    pub syn_rate: f64,
}

/// The state of all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardStats {
    /// VIPs, then listeners.
    pub guarded: Vec<GuardedStats>,
    /// What would have been done where rules, or everything, are only tried: reason and packets.
    pub tried: Vec<(&'static str, u64)>,
    /// Whether everything is only tried.
    pub dry_run: bool,
    /// Whether the kernel's switches are changed for cookies.
    pub is_raised: bool,
}

/// The state of one.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardedStats {
    /// Its name.
    pub name: String,
    /// Where clients send to.
    pub address: String,
    /// Whether sockets of this host answer: SYNs get cookies, else challenges.
    pub is_local: bool,
    /// Whether it is a VIP, else a listener.
    pub is_vip: bool,
    /// `off`, `calm`, `watch` or `attack`.
    pub mode: &'static str,
    /// What the operator set: `auto`, `attack` or `off`.
    pub setting: &'static str,
    /// For how long it has had this mode.
    pub since: Duration,
    /// SYNs a second.
    pub syn_rate: f64,
    /// SYNs that came.
    pub syns: u64,
    /// SYNs that were answered with a cookie or a challenge.
    pub answered: u64,
    /// Cookies and challenges that came back.
    pub proven: u64,
    /// Packets that were dropped for it.
    pub dropped: u64,
}
