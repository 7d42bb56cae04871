//! Records: what was counted for a banned prefix.

use std::collections::HashMap;
use std::net::IpAddr;

use weir_abi::ban::{
    ADDRESS_WORD, FIRST_RECORD, HALF_LINE_WORDS, LENGTH_WORD, LINE_WORDS, LINES_MIN, PREFIX6_WORD,
    RECORD6_FLAG, SEEN_WORD,
};
use weir_model::Cidr;

use super::Table;
use super::memory::{Exhausted, Words};
use crate::prefix::{Address, Prefix};

/// The arena's header, behind the root: how many records of IPv4 and of IPv6 follow it, and the line
/// of the last record that came later, each of which names the one before.
const HEADER: u32 = LINES_MIN * LINE_WORDS;
const COUNT6_WORD: u32 = 1;
const LATER_WORD: u32 = 2;
/// Set in the word with a record's length when another has taken its place.
const VOID_FLAG: u32 = 1 << 9;
/// In a line with a record that came later.
const NEXT_WORD: u32 = LINE_WORDS - 1;

/// What was dropped, or would have been, for a ban.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last one came, Unix time in seconds; 0 is never.
    pub last: u32,
}

impl Hits {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            last: self.last.max(other.last),
        }
    }
}

impl Table {
    /// What was counted for exactly this prefix since it has a record here; `pending` knows what CPUs
    /// have not added to a record yet.
    #[must_use]
    pub fn hits(&self, words: Words<'_>, cidr: Cidr, pending: impl Fn(u32) -> Hits) -> Hits {
        let record = self.record(words, cidr);
        record.map_or_else(Hits::default, |record| hits(words, record).and(pending(record)))
    }

    /// The record of a prefix, counting from zero: as it was, or a new one.
    pub(crate) fn fresh_record(
        &mut self,
        words: Words<'_>,
        cidr: Cidr,
        is_new: bool,
    ) -> Result<u32, Exhausted> {
        if let Some(record) = self.record(words, cidr) {
            if !is_new {
                return Ok(record);
            }
            // CPUs may still have something to add to it, which is no hit of the new ban.
            let length = record * HALF_LINE_WORDS + LENGTH_WORD;
            words.store(length, words.load(length) | VOID_FLAG);
        }
        let line = self.memory.take_lines(1)?;
        let record = line * 2;
        write(words, record, cidr);
        words.store(line * LINE_WORDS + NEXT_WORD, words.load(HEADER + LATER_WORD));
        words.publish(HEADER + LATER_WORD, line);
        self.later.insert(cidr, record);
        Ok(record)
    }

    pub(crate) fn record(&self, words: Words<'_>, cidr: Cidr) -> Option<u32> {
        if let Some(record) = self.later.get(&cidr) {
            return Some(*record);
        }
        let (from, to, step) = match cidr.address() {
            IpAddr::V4(_) => (self.records4.start, self.records4.end, 1),
            IpAddr::V6(_) => (self.records6.start, self.records6.end, 2),
        };
        let (mut low, mut high) = (0, to - from);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = from * step + middle * step;
            match prefix(words, record)?.cmp(&cidr) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(record),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// Writes where the records are.
pub(crate) fn write_header(words: Words<'_>, count4: u32, count6: u32) {
    words.store(HEADER, count4);
    words.store(HEADER + COUNT6_WORD, count6);
}

/// Every prefix of an arena for which anything was counted; `pending` is, by record, what CPUs have not
/// added to it yet.
#[must_use]
pub fn hits_in(words: Words<'_>, pending: &HashMap<u32, Hits>) -> Vec<(Cidr, Hits)> {
    let (count4, count6) = (words.load(HEADER), words.load(HEADER + COUNT6_WORD));
    let first6 = FIRST_RECORD.saturating_add(count4).div_ceil(2);
    let v4 = FIRST_RECORD..FIRST_RECORD.saturating_add(count4);
    let v6 = (first6..first6.saturating_add(count6)).map(|line| line * 2);
    let next =
        |line: &u32| Some(words.load(line * LINE_WORDS + NEXT_WORD)).filter(|&line| line > 0);
    let last = Some(words.load(HEADER + LATER_WORD)).filter(|&line| line > 0);
    let later = std::iter::successors(last, next).map(|line| line * 2);
    let is_void =
        |record: &u32| words.load(record * HALF_LINE_WORDS + LENGTH_WORD) & VOID_FLAG != 0;
    let counted = |record| {
        let waiting = pending.get(&record).copied().unwrap_or_default();
        let hits = hits(words, record).and(waiting);
        (hits.packets > 0).then(|| Some((prefix(words, record)?, hits))).flatten()
    };
    v4.chain(v6).chain(later).filter(|record| !is_void(record)).filter_map(counted).collect()
}

/// Writes whose record it is; it has counted nothing.
pub(crate) fn write(words: Words<'_>, record: u32, cidr: Cidr) {
    let at = record * HALF_LINE_WORDS;
    (0..HALF_LINE_WORDS).for_each(|word| words.store(at + word, 0));
    let length = u32::from(cidr.length());
    if let Some(Prefix::<u32> { start, .. }) = Prefix::of(cidr) {
        words.store(at + ADDRESS_WORD, start);
        words.store(at + LENGTH_WORD, length);
    } else if let Some(Prefix::<u128> { start, .. }) = Prefix::of(cidr) {
        for (word, part) in (0..).zip(start.to_be_bytes().chunks_exact(4)) {
            let part = part.try_into().map_or(0, u32::from_be_bytes);
            words.store(at + PREFIX6_WORD + word, part);
        }
        words.store(at + LENGTH_WORD, length | RECORD6_FLAG);
    }
}

fn hits(words: Words<'_>, record: u32) -> Hits {
    let at = record * HALF_LINE_WORDS;
    Hits {
        packets: words.load_u64(at),
        bytes: words.load_u64(at + 2),
        last: words.load(at + SEEN_WORD),
    }
}

fn prefix(words: Words<'_>, record: u32) -> Option<Cidr> {
    let at = record * HALF_LINE_WORDS;
    let length = words.load(at + LENGTH_WORD);
    let bits = (length & 0xff) as u8;
    if length & RECORD6_FLAG == 0 {
        return Cidr::new(words.load(at + ADDRESS_WORD).ip(), bits);
    }
    let part = |word| u128::from(words.load(at + PREFIX6_WORD + word));
    let address = (0..LINE_WORDS / 4).fold(0u128, |address, word| address << 32 | part(word));
    Cidr::new(address.ip(), bits)
}
