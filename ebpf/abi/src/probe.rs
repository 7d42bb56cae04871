//! Health probes that take a client's way: from this host to a VIP, by way of one backend.
//!
//! A probe's socket is connected to the backend's own address and marked. On its way out the VIP takes
//! that address' place and the packet is wrapped as a client's would be; the answer, which comes from the
//! VIP, is given the backend's address back. So neither a route to the VIP nor its absence from this host
//! is needed.

use crate::Address;

/// The upper half of every mark (`SO_MARK`); the lower one tells probes apart.
pub const MARK: u32 = 0x5745_0000;
/// Probes that have a mark.
pub const PROBES_MAX: u32 = 65_536;
/// Connections of probes whose answers are known.
pub const ANSWERS_MAX: u32 = 65_536;

/// What becomes of packets with a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Probe {
    /// The VIP's address.
    pub vip: Address,
    /// The backend's own address.
    pub backend: Address,
    /// Where the encapsulation says it comes from.
    pub source: Address,
    /// The VIP's port.
    pub vip_port: u16,
    /// The port that the socket is connected to.
    pub backend_port: u16,
    /// [`crate::vip::Forward`].
    pub forward: u8,
    /// No more than a filling.
    pub unused: u8,
    /// The UDP port of GUE.
    pub gue_port: u16,
    /// Packets that went out so. The program counts.
    pub packets: u64,
}

/// Whose answer it is. The key is the answer's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    /// The address that the socket is connected to.
    pub backend: Address,
    /// The port.
    pub port: u32,
    /// No more than a filling.
    pub unused: u32,
}
