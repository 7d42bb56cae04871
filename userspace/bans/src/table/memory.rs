//! Which lines of an arena are in use.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use weir_abi::ban::{Cell, LINE_WORDS, LINES_MIN, PAGE_LINES, marks_for, sieve_bits};

/// The most lines that a run of cells needs: 256 cells.
const RUN_LINES_MAX: usize = 16;
/// Pairs of words in a line.
const PAIRS: u32 = LINE_WORDS / 2;

/// Memory that the kernel reads while it is written.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(pub &'a [AtomicU32]);

impl Words<'_> {
    /// A word; 0 behind the end.
    #[must_use]
    pub fn load(self, at: u32) -> u32 {
        self.0.get(at as usize).map_or(0, |word| word.load(Relaxed))
    }

    /// Two words as the kernel counts them.
    #[must_use]
    pub fn load_u64(self, at: u32) -> u64 {
        u64::from(self.load(at)) | u64::from(self.load(at + 1)) << 32
    }

    /// Writes a word that nobody reads yet.
    pub fn store(self, at: u32, value: u32) {
        if let Some(word) = self.0.get(at as usize) {
            word.store(value, Relaxed);
        }
    }

    /// Writes a word by which what was written before is found.
    pub fn publish(self, at: u32, value: u32) {
        if let Some(word) = self.0.get(at as usize) {
            word.store(value, Release);
        }
    }
}

/// The marks and the filter in front of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'a> {
    /// Of IPv4, by `marks_for`.
    pub v4: &'a [AtomicU64],
    /// The sieve behind them, by `sieve_bits`.
    pub sieve: &'a [AtomicU64],
    /// Of IPv6, by `filter_bit`.
    pub v6: &'a [AtomicU64],
}

impl<'a> Marks<'a> {
    /// Has an address found.
    pub(crate) fn add(self, address: u32) {
        let (word, near, host) = marks_for(address);
        self.set(word, 1 << near | 1 << host);
        set_bit(self.sieve, sieve_bits(address).0);
    }

    /// Has every address of a /24 found, and what is in the same /22.
    pub(crate) fn add_all(self, block: u32) {
        let (word, near, _) = marks_for(block << 8);
        self.set(word, 1 << near | 0xffff_ffff << 32);
        set_bit(self.sieve, sieve_bits(block << 8).1);
    }

    /// Has no address of a /22 found, given an address of it.
    pub(crate) fn take_near(self, address: u32) {
        let (word, near, _) = marks_for(address);
        if let Some(word) = self.v4.get(word as usize) {
            word.fetch_and(!(1 << near), Release);
        }
    }

    /// Sets a bit of the filter of IPv6.
    pub(crate) fn add6(self, bit: u32) {
        set_bit(self.v6, bit);
    }

    /// Sets every bit of the filter of IPv6.
    pub(crate) fn add_all6(self) {
        self.v6.iter().for_each(|word| word.store(u64::MAX, Release));
    }

    /// Adds everything that others have.
    pub fn join(self, others: Marks<'_>) {
        for (word, other) in self.beside(others) {
            word.fetch_or(other.load(Relaxed), Release);
        }
    }

    /// Becomes what others are.
    pub fn become_others(self, others: Marks<'_>) {
        for (word, other) in self.beside(others) {
            word.store(other.load(Relaxed), Release);
        }
    }

    fn beside<'b>(self, others: Marks<'b>) -> impl Iterator<Item = (&'a AtomicU64, &'b AtomicU64)> {
        let pairs = self.v4.iter().zip(others.v4).chain(self.sieve.iter().zip(others.sieve));
        pairs.chain(self.v6.iter().zip(others.v6))
    }

    fn set(self, word: u32, bits: u64) {
        if let Some(word) = self.v4.get(word as usize) {
            word.fetch_or(bits, Release);
        }
    }
}

fn set_bit(words: &[AtomicU64], bit: u32) {
    if let Some(word) = words.get(bit as usize / 64) {
        word.fetch_or(1 << (bit % 64), Release);
    }
}

/// The arena has no room left; a new table must be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// What an arena has to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub(crate) pages: u32,
    pub(crate) spans: u32,
    /// Lines of blocks with their runs.
    pub(crate) block_lines: u32,
    pub(crate) records4: u32,
    pub(crate) records6: u32,
}

/// The least room for changes, lines: 1 MiB.
const ROOM_LINES_MIN: u32 = 1 << 14;

impl Size {
    /// Lines of an arena with room for changes.
    #[must_use]
    pub fn lines(&self) -> u32 {
        let used = self.used();
        used.saturating_add((used / 16).max(ROOM_LINES_MIN)).min(Cell::PLACES_MAX / PAIRS)
    }

    fn used(&self) -> u32 {
        // The root, and the header of the records.
        (LINES_MIN + 1)
            .saturating_add(self.pages.saturating_mul(PAGE_LINES))
            .saturating_add(self.spans.div_ceil(PAIRS))
            .saturating_add(self.block_lines)
            .saturating_add(self.records4.div_ceil(2))
            .saturating_add(self.records6)
    }
}

/// A piece of an arena that can be given up.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Pair(u32),
    Lines { first: u32, count: u32 },
}

/// The allocator of an arena.
#[derive(Debug)]
pub(crate) struct Memory {
    next: u32,
    end: u32,
    pairs: Vec<u32>,
    /// By their number.
    lines: [Vec<u32>; RUN_LINES_MAX + 1],
    /// Given up when, oldest first.
    given_up: VecDeque<(u64, Piece)>,
    /// Pieces that are free or given up, in pairs.
    idle_pairs: u32,
}

impl Memory {
    pub(crate) fn new(lines: u32) -> Self {
        Self {
            next: LINES_MIN,
            end: lines,
            pairs: Vec::new(),
            lines: [const { Vec::new() }; RUN_LINES_MAX + 1],
            given_up: VecDeque::new(),
            idle_pairs: 0,
        }
    }

    pub(crate) fn usage(&self) -> (u32, u32) {
        (self.next - self.idle_pairs / PAIRS, self.end)
    }

    /// `count` lines in a row, their words as they were left.
    pub(crate) fn take_lines(&mut self, count: u32) -> Result<u32, Exhausted> {
        if let Some(line) = self.lines.get_mut(count as usize).and_then(Vec::pop) {
            self.idle_pairs -= count * PAIRS;
            return Ok(line);
        }
        self.take_row(count)
    }

    /// Any number of lines in a row, which are never given up.
    pub(crate) fn take_row(&mut self, count: u32) -> Result<u32, Exhausted> {
        let first = self.next;
        let next = first.checked_add(count).filter(|&next| next <= self.end).ok_or(Exhausted)?;
        self.next = next;
        Ok(first)
    }

    /// Lines that were never used.
    pub(crate) fn untouched(&self) -> u32 {
        self.end - self.next
    }

    /// A page, all of it zero: never one that was used before.
    pub(crate) fn take_page(&mut self) -> Result<u32, Exhausted> {
        self.take_row(PAGE_LINES)
    }

    /// A pair of words.
    pub(crate) fn take_pair(&mut self) -> Result<u32, Exhausted> {
        if self.pairs.is_empty() {
            let line = self.take_lines(1)?;
            // The last is taken first, so that pairs taken in a row lie in a row.
            self.pairs.extend((line * PAIRS..(line + 1) * PAIRS).rev());
            self.idle_pairs += PAIRS;
        }
        self.idle_pairs -= 1;
        self.pairs.pop().ok_or(Exhausted)
    }

    pub(crate) fn give_up_pair(&mut self, pair: u32, now_ms: u64) {
        self.idle_pairs += 1;
        self.given_up.push_back((now_ms, Piece::Pair(pair)));
    }

    pub(crate) fn give_up_lines(&mut self, first: u32, count: u32, now_ms: u64) {
        self.idle_pairs += count * PAIRS;
        self.given_up.push_back((now_ms, Piece::Lines { first, count }));
    }

    pub(crate) fn reclaim(&mut self, now_ms: u64, age_ms: u64) {
        while let Some(&(since, piece)) = self.given_up.front()
            && since + age_ms <= now_ms
        {
            self.given_up.pop_front();
            match piece {
                Piece::Pair(pair) => self.pairs.push(pair),
                Piece::Lines { first, count } => {
                    if let Some(lines) = self.lines.get_mut(count as usize) {
                        lines.push(first);
                    }
                }
            }
        }
    }
}
