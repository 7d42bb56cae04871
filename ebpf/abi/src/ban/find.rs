//! What becomes of a source: the search that the kernel makes for every packet.

use super::cell::{Cell, Kind};
use super::layout::{
    BLOCK_RUN_WORD, Key6, LENGTHS_MAX, LINE_WORDS, MARKS, STARTS_WORDS, filter_bit, span_bounds,
};
use crate::Address;

/// The tables of one slot. What is not there reads as zero, which is clean.
pub trait Tables {
    /// A bit of the bitmaps.
    fn mark(&self, bit: u32) -> bool;

    /// `N` words of the arena, a power of two that divides the line; `at` is a multiple of it.
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]>;

    /// How many prefix lengths of IPv6 are in use, and whether some of them are allowed.
    fn lengths(&self) -> (u32, bool);

    /// The prefix length of IPv6 at this place, longest first.
    fn length(&self, index: u32) -> u8;

    /// The cell of exactly this prefix.
    fn exact(&self, key: &Key6) -> Option<Cell>;

    /// The decision of [`search6`]. The kernel's verifier wants it as a function of its own.
    #[inline(always)]
    fn decide6(&self, high: u64, low: u64) -> Cell
    where
        Self: Sized,
    {
        search6(self, high, low)
    }
}

/// What becomes of a source: [`Kind::Clean`], [`Kind::Ban`], [`Kind::DryRun`] or [`Kind::Allowed`].
#[inline(always)]
pub fn find(tables: &impl Tables, source: Address) -> Kind {
    match source {
        Address::V4(address) => find_v4(tables, u32::from_be_bytes(address)),
        // An IPv4 host that speaks IPv6 at a dual socket is the same host.
        Address::V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]) => {
            find_v4(tables, u32::from_be_bytes([a, b, c, d]))
        }
        Address::V6(address) => find_v6(tables, address),
    }
}

#[inline(always)]
fn find_v4(tables: &impl Tables, address: u32) -> Kind {
    if !tables.mark(address >> 8) {
        return Kind::Clean;
    }
    behind_mark(tables, address).unwrap_or(Kind::Clean)
}

#[inline(always)]
fn behind_mark(tables: &impl Tables, address: u32) -> Option<Kind> {
    let [page] = tables.words::<1>(address >> 16)?;
    if page == 0 {
        return None;
    }
    let [cell] = tables.words::<1>(page * LINE_WORDS + (address >> 8 & 0xff))?;
    match Cell(cell).kind() {
        Kind::Span(pair) => {
            let [bounds, cell] = tables.words::<2>(pair << 1)?;
            let (first, last) = span_bounds(bounds);
            let here = address & 0xff;
            (first <= here && here <= last).then_some(Cell(cell).kind())
        }
        Kind::Block(line) => {
            let block = tables.words::<16>(line * LINE_WORDS)?;
            let [cell] =
                tables.words::<1>(block[BLOCK_RUN_WORD as usize] + rank(&block, address))?;
            Some(Cell(cell).kind())
        }
        decision => Some(decision),
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

#[inline(always)]
fn find_v6(tables: &impl Tables, address: [u8; 16]) -> Kind {
    let first = u32::from_be_bytes([address[0], address[1], address[2], address[3]]);
    if !tables.mark(MARKS + filter_bit(first)) {
        return Kind::Clean;
    }
    let bits = u128::from_be_bytes(address);
    tables.decide6((bits >> 64) as u64, bits as u64).kind()
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
