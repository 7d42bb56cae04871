//! Prefixes of one family, in the form that sorts and compares fastest.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_model::Cidr;

/// An address of a family: `u32` is IPv4, `u128` is IPv6.
pub trait Address: Copy + Ord + Debug {
    /// Of the address.
    const BITS: u8;

    /// The address with all but its first `length` bits zero.
    #[must_use]
    fn first(self, length: u8) -> Self;

    /// The address with all but its first `length` bits one.
    #[must_use]
    fn last(self, length: u8) -> Self;

    /// For people.
    fn ip(self) -> IpAddr;

    /// An address of this family.
    fn of(address: IpAddr) -> Option<Self>;
}

impl Address for u32 {
    const BITS: u8 = 32;

    fn first(self, length: u8) -> Self {
        self & Self::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
    }

    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(u32::from(length)).unwrap_or(0)
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self).into()
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }
}

impl Address for u128 {
    const BITS: u8 = 128;

    fn first(self, length: u8) -> Self {
        self & Self::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }

    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(u32::from(length)).unwrap_or(0)
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.into()),
        }
    }
}

/// A prefix of one family. Sorts by address, then from wide to narrow: what holds another stands
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix<A> {
    /// Its first address.
    pub start: A,
    /// Bits that are fixed.
    pub length: u8,
}

impl<A: Address> Prefix<A> {
    /// The prefix of `length` bits around an address.
    #[must_use]
    pub fn around(address: A, length: u8) -> Self {
        Self { start: address.first(length), length }
    }

    /// The prefix, if it is of this family.
    #[must_use]
    pub fn of(cidr: Cidr) -> Option<Self> {
        Some(Self { start: A::of(cidr.address())?, length: cidr.length() })
    }

    /// Its last address.
    #[must_use]
    pub fn last(self) -> A {
        self.start.last(self.length)
    }

    /// Whether all of `other` lies inside.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        self.length <= other.length && other.start.first(self.length) == self.start
    }

    /// For people. A prefix of IPv6 that is IPv4 in disguise does not exist here.
    #[must_use]
    pub fn cidr(self) -> Cidr {
        Cidr::new(self.start.ip(), self.length).unwrap_or_else(|| Cidr::host(self.start.ip()))
    }

    /// Everything that could hold it, from narrow to wide; itself first.
    pub(crate) fn holders(self) -> impl Iterator<Item = Self> {
        (0..=self.length).rev().map(move |length| Self::around(self.start, length))
    }
}
