//! IPv6: the keys of the exact look-up, the lengths in use, the filter before it.

use weir_abi::ban::{Cell, Key6, Kind, LENGTHS_MAX, Lengths, filter_bit};

use super::memory::Marks;
use crate::prefix::{Address, Prefix};
use crate::rule::{Banned, Rule};

/// Prefixes shorter than this set every bit of the filter: they hold too many /32s to set each.
const FILTER_LENGTH_MIN: u8 = 14;

/// The entries of the exact look-up.
pub fn keys6(rules: &[Rule<u128>]) -> impl Iterator<Item = (Key6, u32)> {
    rules.iter().map(|rule| (key(rule.prefix), cell(rule).0))
}

/// The prefix lengths in use, longest first, and whether any prefix is allowed.
#[must_use]
pub fn lengths6(rules: &[Rule<u128>]) -> Lengths {
    let mut lengths = Lengths { count: 0, allowed: 0, lengths: [0; LENGTHS_MAX] };
    // With a default route there could be one length more than there is room for; the widest goes.
    for length in (0..=<u128 as Address>::BITS).rev() {
        if rules.iter().any(|rule| rule.prefix.length == length)
            && let Some(place) = lengths.lengths.get_mut(lengths.count as usize)
        {
            *place = length;
            lengths.count += 1;
        }
    }
    lengths.allowed = u32::from(rules.iter().any(|rule| rule.allowed));
    lengths
}

/// Sets the bits of the filter by which a prefix is found.
pub fn mark6(marks: Marks<'_>, prefix: Prefix<u128>) {
    let (first, last) = ((prefix.start >> 96) as u32, (prefix.last() >> 96) as u32);
    if prefix.length < FILTER_LENGTH_MIN {
        marks.add_all6();
    } else {
        (first..=last).for_each(|first| marks.add6(filter_bit(first)));
    }
}

fn key(prefix: Prefix<u128>) -> Key6 {
    Key6 { length: u32::from(prefix.length), address: prefix.start.to_be_bytes() }
}

fn cell<A>(rule: &Rule<A>) -> Cell {
    Cell::new(match rule.banned {
        _ if rule.allowed => Kind::Allowed(rule.record),
        Banned::No => Kind::Clean,
        Banned::DryRun => Kind::DryRun(rule.record),
        Banned::Yes | Banned::Forced => Kind::Ban(rule.record),
    })
}
