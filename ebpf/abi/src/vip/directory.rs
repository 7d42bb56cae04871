//! What an address, port and protocol are to us: a hash table that user space builds whole.

use super::hash::directory_hash;
use super::layout::{ANY_PORT, DIRECTORY, Entry, EntryKind, PROBES_MAX};
use crate::Address;

/// The entries, wherever they are.
pub trait Directory {
    /// What a search hands out: an entry, or where it is.
    type Found: Copy;

    /// The entry of a number below [`DIRECTORY`].
    fn entry(&self, index: u32) -> Option<Self::Found>;

    /// Its address and key.
    fn key(&self, found: Self::Found) -> (Address, u32);
}

/// The entry of an address with this port and protocol, whatever its kind; else the one for all ports.
#[inline(always)]
pub fn find<D: Directory>(
    directory: &D,
    address: Address,
    port: u16,
    protocol: u8,
) -> Option<D::Found> {
    let found = search(directory, address, key(port, protocol));
    if found.is_some() { found } else { search(directory, address, key(ANY_PORT, protocol)) }
}

/// The entry that says that some VIP has this address.
#[inline(always)]
pub fn find_address<D: Directory>(directory: &D, address: Address) -> Option<D::Found> {
    search(directory, address, key(ANY_PORT, 0))
}

/// The entry that says that our encapsulation comes from this address.
#[inline(always)]
pub fn find_own<D: Directory>(directory: &D, address: Address) -> Option<D::Found> {
    search(directory, address, key(OWN_PORT, 0))
}

/// The port of entries of kind [`EntryKind::OwnSource`].
const OWN_PORT: u16 = 1;

#[inline(always)]
fn search<D: Directory>(directory: &D, address: Address, key: u32) -> Option<D::Found> {
    let start = directory_hash(address, key);
    for probe in 0..PROBES_MAX {
        let found = directory.entry((start + probe) & (DIRECTORY - 1))?;
        let (other, other_key) = directory.key(found);
        if other_key >> 24 == EntryKind::Empty as u32 {
            return None;
        }
        if other_key & 0x00ff_ffff == key && other.low == address.low && other.high == address.high
        {
            return Some(found);
        }
    }
    None
}

#[inline(always)]
const fn key(port: u16, protocol: u8) -> u32 {
    port as u32 | (protocol as u32) << 16
}

impl Entry {
    /// Nothing.
    pub const EMPTY: Self = Self { high: 0, low: 0, key: 0, how: 0, vip: 0, table: 0 };

    /// An entry; the VIP, its table and how it is served are 0.
    #[must_use]
    pub const fn new(address: Address, port: u16, protocol: u8, kind: EntryKind) -> Self {
        let key = match kind {
            EntryKind::OwnSource => key(OWN_PORT, 0),
            EntryKind::Address => key(ANY_PORT, 0),
            _ => key(port, protocol),
        };
        let key = key | (kind as u32) << 24;
        Self { high: address.high, low: address.low, key, how: 0, vip: 0, table: 0 }
    }

    /// Where its search begins.
    #[must_use]
    pub const fn start(&self) -> u32 {
        directory_hash(Address { high: self.high, low: self.low }, self.key & 0x00ff_ffff)
    }
}
