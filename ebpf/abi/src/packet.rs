//! A packet's bytes, and the addresses in it.

use crate::wire::{self, Walked};

/// Bytes of a packet from the Ethernet header on.
pub trait Packet {
    /// The `N` bytes at `at`; `None` past the end.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The number that four bytes are in network order. A machine that reads them at once may do so.
    #[inline(always)]
    fn read_u32(&self, at: usize) -> Option<u32> {
        self.read(at).map(u32::from_be_bytes)
    }

    /// The number that eight bytes are in network order.
    #[inline(always)]
    fn read_u64(&self, at: usize) -> Option<u64> {
        self.read(at).map(u64::from_be_bytes)
    }

    /// Walks along the extension headers of IPv6 ([`wire::walk`]).
    fn walk(&self, at: usize, next: u8) -> Walked
    where
        Self: Sized,
    {
        wire::walk(self, at, next)
    }

    /// Bytes of the packet.
    fn length(&self) -> usize;
}

impl Packet for &[u8] {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.len()
    }
}

/// An address; one of IPv4 as the mapped one of IPv6 (`::ffff:192.0.2.1`), which is the same host.
///
/// Plain numbers instead of variants: the verifier refuses what a compiler leaves undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Address {
    /// The first eight bytes, the first of them the most significant.
    pub high: u64,
    /// The other eight.
    pub low: u64,
}

impl Address {
    /// An address of IPv4.
    #[inline(always)]
    #[must_use]
    pub const fn v4(address: u32) -> Self {
        Self { high: 0, low: 0xffff_0000_0000 | address as u64 }
    }

    /// Whether it is one of IPv4: the lower half of `low`.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == 0xffff
    }
}
