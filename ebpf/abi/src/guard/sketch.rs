//! A count-min sketch with conservative update: how often a source came in this second, never less than
//! it did, however many others there are and without room for each.

use super::layout::{SKETCH_CELLS, SKETCH_ROWS};
use crate::Address;
use crate::wire::V4;

/// The cells of a sketch, wherever they are.
pub trait Cells {
    /// The cell of a number below [`SKETCH_ROWS`] times [`SKETCH_CELLS`].
    fn load(&self, index: u32) -> u32;

    /// Writes it.
    fn store(&self, index: u32, cell: u32);
}

/// Bits of a cell that count; the others tell the second.
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd6e8_feb8_6659_fd93;

/// Counts one more of a key; how many it were in this tick, itself included.
#[inline(always)]
pub fn count(cells: &impl Cells, hash: u64, tick: u32) -> u32 {
    let stamp = tick << COUNT_BITS;
    let mut least = COUNT_MAX;
    let mut held = [0; SKETCH_ROWS as usize];
    let mut row = 0;
    while row < SKETCH_ROWS {
        let cell = cells.load(cell_of(hash, row));
        let count = if (cell ^ stamp) >> COUNT_BITS == 0 { cell & COUNT_MAX } else { 0 };
        held[row as usize] = count;
        least = if count < least { count } else { least };
        row += 1;
    }
    let more = if least < COUNT_MAX { least + 1 } else { least };
    row = 0;
    while row < SKETCH_ROWS {
        // Cells that have more have it of others.
        if held[row as usize] < more {
            cells.store(cell_of(hash, row), stamp | more);
        }
        row += 1;
    }
    more
}

/// The cell of a key in a row.
#[inline(always)]
#[must_use]
pub const fn cell_of(hash: u64, row: u32) -> u32 {
    row * SKETCH_CELLS + ((hash >> (row * 16)) as u32 & (SKETCH_CELLS - 1))
}

/// The prefix of a source that a kind counts, and its hash, by a number that nobody else knows. `masks` is
/// the kind's of [`super::State::masks`].
#[inline(always)]
#[must_use]
pub const fn source_key(
    source: Address,
    family: u8,
    kind: u32,
    masks: [u64; 2],
    secret: u64,
) -> (Address, u64) {
    let prefix = if family == V4 {
        Address { high: source.high, low: source.low & masks[0] }
    } else {
        Address { high: source.high & masks[1], low: 0 }
    };
    let mut hash = (prefix.high ^ secret).wrapping_mul(K0);
    hash = (hash ^ hash >> 32 ^ prefix.low).wrapping_mul(K1);
    hash = (hash ^ hash >> 32 ^ kind as u64).wrapping_mul(K0);
    (prefix, hash ^ hash >> 32)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::RefCell;
    use std::collections::HashMap;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::guard::{Kind, masks};

    struct Memory(RefCell<Vec<u32>>);

    impl Cells for Memory {
        fn load(&self, index: u32) -> u32 {
            self.0.borrow()[index as usize]
        }

        fn store(&self, index: u32, cell: u32) {
            self.0.borrow_mut()[index as usize] = cell;
        }
    }

    fn memory() -> Memory {
        Memory(RefCell::new(vec![0; (SKETCH_ROWS * SKETCH_CELLS) as usize]))
    }

    fn hash_of(address: u32) -> u64 {
        source_key(Address::v4(address), V4, 0, masks()[0], 7).1
    }

    #[test]
    fn nobody_is_counted_too_low_and_few_too_high() {
        let (memory, mut exact) = (memory(), HashMap::<u32, u32>::new());
        let mut seed = 1u64;
        let (mut wrong, mut worst) = (0, 0);
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // One in four packets is of a hundred heavy ones, the others of whoever.
            let random = (seed >> 33) as u32;
            let source = if random.is_multiple_of(4) { random / 4 % 100 } else { random };
            let count = super::count(&memory, hash_of(source), 5);
            let exact = exact.entry(source).or_default();
            *exact += 1;
            assert!(count >= *exact);
            wrong += u32::from(count > *exact + 5);
            worst = worst.max(count - *exact);
        }
        assert!(wrong < 400 && worst < 30, "{wrong} off by more than 5, the worst by {worst}");
    }

    #[test]
    fn a_second_forgets_the_one_before() {
        let memory = memory();
        for _ in 0..10 {
            super::count(&memory, hash_of(9), 1);
        }
        assert_eq!(super::count(&memory, hash_of(9), 1), 11);
        assert_eq!(super::count(&memory, hash_of(9), 2), 1);
        assert_eq!(super::count(&memory, hash_of(9), 3), 1);
    }

    #[test]
    fn prefixes_are_cut() {
        let masks = |kind| masks()[kind as usize];
        let address = Address::v4(0xc0a8_0a0b);
        let key = |kind| source_key(address, V4, kind as u32, masks(kind), 0).0;
        assert_eq!(key(Kind::Syns), Address::v4(0xc0a8_0a0b));
        assert_eq!(key(Kind::SynsNear), Address::v4(0xc0a8_0a00));
        assert_eq!(key(Kind::SynsFar), Address::v4(0xc0a8_0000));
        let six = Address { high: 0x2001_0db8_1234_5678, low: 9 };
        let key = |kind| source_key(six, 6, kind as u32, masks(kind), 0).0;
        assert_eq!(key(Kind::Packets), Address { high: six.high, low: 0 });
        assert_eq!(key(Kind::SynsNear), Address { high: 0x2001_0db8_1234_0000, low: 0 });
        assert_eq!(key(Kind::SynsFar), Address { high: 0x2001_0db8_0000_0000, low: 0 });
    }
}
