//! The hashes of layer 4. Every balancer of a fleet must come to the same slot, so they have no secret.

use super::layout::{DIRECTORY, SLOTS};
use crate::Address;

/// Odd numbers without a pattern: digits of the golden ratio, of e, of pi.
const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xb7e1_5162_8aed_2a6b;
const K2: u64 = 0x243f_6a88_85a3_08d3;

#[inline(always)]
const fn mix(value: u64, by: u64) -> u64 {
    (value ^ (value >> 32)).wrapping_mul(by)
}

#[inline(always)]
const fn fold(address: Address) -> u64 {
    mix(address.high.wrapping_mul(K1) ^ address.low, K0)
}

/// The hash by which a flow's slot is found.
#[inline(always)]
#[must_use]
pub const fn flow_hash(source: Address, destination: Address, ports: u32, protocol: u8) -> u32 {
    let hash = mix(fold(source) ^ destination.low ^ destination.high.rotate_left(17), K1);
    let hash = mix(hash ^ ((ports as u64) << 8 | protocol as u64), K2);
    (hash >> 32) as u32
}

/// The same by the sender's address alone.
#[inline(always)]
#[must_use]
pub const fn source_hash(source: Address) -> u32 {
    (mix(fold(source), K2) >> 32) as u32
}

/// The slot of a hash.
#[inline(always)]
#[must_use]
pub const fn slot_of(hash: u32) -> u32 {
    ((hash as u64 * SLOTS as u64) >> 32) as u32
}

/// Where a search through the directory begins.
#[inline(always)]
#[must_use]
pub const fn directory_hash(address: Address, key: u32) -> u32 {
    (mix(fold(address) ^ key as u64, K2) >> 32) as u32 & (DIRECTORY - 1)
}

/// The bit of an address in the filter.
#[inline(always)]
#[must_use]
pub const fn filter_bit(address: Address) -> u32 {
    (fold(address) >> 48) as u32
}
