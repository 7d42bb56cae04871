//! A packet's bytes, and the addresses in it.

use crate::wire::{self, Walked};

/// Bytes of a packet from the Ethernet header on. Reads are asked for in spans, so that one look at
/// the packet's end is enough for a whole header.
pub trait Packet {
    /// `N` bytes that are there.
    type Span<const N: usize>: Bytes + Copy;

    /// The `N` bytes at `at`; `None` past the end.
    fn span<const N: usize>(&self, at: usize) -> Option<Self::Span<N>>;

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

/// Bytes that are there: numbers in network order, at offsets that must lie inside.
pub trait Bytes {
    /// The byte at `AT`.
    fn u8<const AT: usize>(self) -> u8;
    /// The two bytes from `AT` on.
    fn u16<const AT: usize>(self) -> u16;
    /// The four bytes from `AT` on.
    fn u32<const AT: usize>(self) -> u32;
    /// The eight bytes from `AT` on.
    fn u64<const AT: usize>(self) -> u64;
}

impl Packet for &[u8] {
    type Span<const N: usize> = [u8; N];

    fn span<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.len()
    }
}

impl<const N: usize> Bytes for [u8; N] {
    fn u8<const AT: usize>(self) -> u8 {
        self[AT]
    }

    fn u16<const AT: usize>(self) -> u16 {
        u16::from_be_bytes([self[AT], self[AT + 1]])
    }

    fn u32<const AT: usize>(self) -> u32 {
        self[AT..].as_chunks::<4>().0.first().map_or(0, |four| u32::from_be_bytes(*four))
    }

    fn u64<const AT: usize>(self) -> u64 {
        self[AT..].as_chunks::<8>().0.first().map_or(0, |eight| u64::from_be_bytes(*eight))
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
