//! What becomes of a source: the search that the kernel makes for every packet.

use super::cell::{Cell, Kind};
use super::layout::{
    BLOCK_RUN_WORD, Key6, LENGTHS_MAX, LINE_WORDS, STARTS_WORDS, filter_bit, marks_for, sieve_bits,
    span_bounds,
};
use crate::Address;

/// What stands in front of the tables: enough for a source that is clean.
pub trait Front {
    /// The tables of one slot.
    type Tables: Tables;

    /// A word of the marks of IPv4.
    fn marks(&self, word: u32) -> u64;

    /// A bit of the sieve of IPv4.
    fn sieve(&self, bit: u32) -> bool;

    /// A bit of the filter of IPv6.
    fn filter(&self, bit: u32) -> bool;

    /// The tables in force, which are one slot's to the end of the search.
    fn tables(&self) -> Self::Tables;

    /// The decision of [`search6`]. The kernel's verifier wants it as a function of its own.
    #[inline(always)]
    fn decide6(&self, high: u64, low: u64) -> Cell {
        search6(&self.tables(), high, low)
    }
}

/// The tables of one slot. What is not there reads as zero, which is clean.
pub trait Tables {
    /// The line of the first page, where all of them lie in a row; else 0.
    fn pages(&self) -> u32;

    /// `N` words of the arena, a power of two that divides the line; `at` is a multiple of it.
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]>;

    /// How many prefix lengths of IPv6 are in use, and whether some of them are allowed.
    fn lengths(&self) -> (u32, bool);

    /// The prefix length of IPv6 at this place, longest first.
    fn length(&self, index: u32) -> u8;

    /// The cell of exactly this prefix.
    fn exact(&self, key: &Key6) -> Option<Cell>;
}

/// What becomes of a source: a cell that is [`Kind::Clean`], [`Kind::Ban`], [`Kind::DryRun`] or
/// [`Kind::Allowed`].
#[inline(always)]
pub fn find(front: &impl Front, source: Address) -> Cell {
    if source.is_v4() {
        find_v4(front, source.low as u32)
    } else {
        find_v6(front, source.high, source.low)
    }
}

/// The same for an address of IPv4.
#[inline(always)]
pub fn find_v4(front: &impl Front, address: u32) -> Cell {
    let (word, near, host) = marks_for(address);
    let marks = front.marks(word);
    // One branch, not two: each that goes the unexpected way waits for the load.
    if marks >> near & marks >> host & 1 == 0 {
        return Cell::CLEAN;
    }
    let (host, near) = sieve_bits(address);
    if !front.sieve(host) && !front.sieve(near) {
        return Cell::CLEAN;
    }
    behind_marks(&front.tables(), address).unwrap_or(Cell::CLEAN)
}

#[inline(always)]
fn behind_marks(tables: &impl Tables, address: u32) -> Option<Cell> {
    let pages = tables.pages();
    let at = if pages == 0 {
        let [page] = tables.words::<1>(address >> 16)?;
        if page == 0 {
            return None;
        }
        page * LINE_WORDS + (address >> 8 & 0xff)
    } else {
        pages * LINE_WORDS + (address >> 8)
    };
    let [cell] = tables.words::<1>(at)?;
    match Cell(cell).kind() {
        Kind::Host(last, record) => {
            Some(if address & 0xff == last { Cell::new(Kind::Ban(record)) } else { Cell::CLEAN })
        }
        Kind::Span(pair) => {
            let [bounds, cell] = tables.words::<2>(pair << 1)?;
            let (first, last) = span_bounds(bounds);
            let here = address & 0xff;
            Some(if first <= here && here <= last { Cell(cell) } else { Cell::CLEAN })
        }
        Kind::Block(line) => {
            let block = tables.words::<16>(line * LINE_WORDS)?;
            let [cell] =
                tables.words::<1>(block[BLOCK_RUN_WORD as usize] + rank(&block, address))?;
            Some(Cell(cell))
        }
        _ => Some(Cell(cell)),
    }
}

/// Which run of a block an address is in.
#[inline(always)]
fn rank(block: &[u32; 16], address: u32) -> u32 {
    let (word, bit) = (address >> 5 & 7, address & 31);
    let mut rank = 0;
    let mut index = 0;
    while index < STARTS_WORDS {
        let mask = if index < word {
            u32::MAX
        } else if index == word {
            u32::MAX >> (31 - bit)
        } else {
            0
        };
        rank += (block[index as usize] & mask).count_ones();
        index += 1;
    }
    rank.wrapping_sub(1)
}

/// The same for an address of IPv6 that is not one of IPv4.
#[inline(always)]
fn find_v6(front: &impl Front, high: u64, low: u64) -> Cell {
    if front.filter(filter_bit((high >> 32) as u32)) {
        front.decide6(high, low)
    } else {
        Cell::CLEAN
    }
}

/// What becomes of a source of IPv6 behind the filter: every prefix around it is looked up.
#[inline(always)]
pub fn search6(tables: &impl Tables, high: u64, low: u64) -> Cell {
    let (count, any_allowed) = tables.lengths();
    // Records: 0 is none.
    let (mut ban, mut dry_run, mut allowed) = (0, 0, false);
    for index in 0..LENGTHS_MAX as u32 {
        if index >= count || (ban != 0 && (!any_allowed || allowed)) {
            break;
        }
        let length = tables.length(index);
        match tables.exact(&key(high, low, length)).unwrap_or(Cell::CLEAN).kind() {
            Kind::Ban(record) if ban == 0 => ban = record,
            Kind::DryRun(record) if dry_run == 0 => dry_run = record,
            Kind::Allowed(record) => {
                allowed = true;
                // Of exactly this prefix there may be a ban as well.
                if dry_run == 0 {
                    dry_run = record;
                }
            }
            _ => {}
        }
    }
    Cell::new(match (ban, dry_run) {
        (0, 0) => Kind::Clean,
        (0, record) | (record, _) if allowed => Kind::Allowed(record),
        (0, record) => Kind::DryRun(record),
        (record, _) => Kind::Ban(record),
    })
}

/// The prefix of `length` bits around an address.
#[inline(always)]
fn key(high: u64, low: u64, length: u8) -> Key6 {
    let bits = u32::from(length);
    let (high, low) = if bits == 0 {
        (0, 0)
    } else if bits <= 64 {
        (high & u64::MAX << (64 - bits), 0)
    } else {
        (high, low & u64::MAX << ((128 - bits) & 63))
    };
    let (high, low) = (high.to_be_bytes(), low.to_be_bytes());
    let mut address = [0; 16];
    let mut index = 0;
    while index < 8 {
        address[index] = high[index];
        address[index + 8] = low[index];
        index += 1;
    }
    Key6 { length: bits, address }
}
