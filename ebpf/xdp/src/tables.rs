//! The ban tables, as the kernel holds them.

use aya_ebpf::btf_maps::{Array as BtfArray, ArrayOfMaps, HashMap as BtfHashMap};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::Array;
use core::ptr::read_volatile;
use weir_abi::ban::{
    Cell, FILTER_WORDS, Front, Key6, LINE_WORDS, MARKS, SIEVE_WORDS, SLOTS, Shared, State, Tables,
    search6,
};

const NO_PREALLOC: usize = 1;
const MMAPABLE: usize = 1 << 10;
/// Tables of any size may take each other's place.
const INNER_MAP: usize = 1 << 12;

/// The switches and marks. Written through memory that user space shares.
#[map]
static SHARED: Array<Shared> = Array::with_max_entries(1, MMAPABLE as u32);

/// The arenas of both slots: what lies behind the marks. Written in the same way.
#[btf_map]
static ARENAS: ArrayOfMaps<BtfArray<Line, 1, { MMAPABLE | INNER_MAP }>, { SLOTS as usize }> =
    ArrayOfMaps::new();

/// The prefixes of IPv6 of both slots.
#[btf_map]
static PREFIXES6: ArrayOfMaps<BtfHashMap<Key6, u32, 1, NO_PREALLOC>, { SLOTS as usize }> =
    ArrayOfMaps::new();

/// A line of the arena.
pub struct Line {
    words: [u32; LINE_WORDS as usize],
}

/// What user space shares: all that a clean packet needs.
pub struct Gate {
    shared: *const Shared,
}

/// The tables in force.
pub struct InForce {
    /// Read once: two slots in one search would be two tables.
    slot: u32,
    shared: *const Shared,
}

impl Gate {
    /// `None` never happens, but the verifier wants to be told what then.
    #[inline(always)]
    pub fn open() -> Option<Self> {
        Some(Self { shared: SHARED.get_ptr(0)? })
    }

    #[inline(always)]
    pub fn state(&self) -> *const State {
        // SAFETY: the value of an array map, which is never freed while the program runs.
        unsafe { &raw const (*self.shared).state }
    }
}

impl InForce {
    /// Half a line of the arena: a record.
    #[inline(always)]
    pub fn record(&self, record: u32) -> Option<*mut [u32; 8]> {
        let line = ARENAS.get_value_ptr_mut(self.slot, &(record >> 1))?;
        let half = (record & 1) as usize * 8;
        // SAFETY: `half` is 0 or 8, so the eight words lie within the line's sixteen.
        Some(unsafe { (&raw mut (*line).words).cast::<u32>().add(half).cast() })
    }
}

impl Front for Gate {
    type Tables = InForce;

    #[inline(always)]
    fn marks(&self, word: u32) -> u64 {
        let word = (word & (MARKS - 1)) as usize;
        // SAFETY: `word` was just bounded; the value is never freed.
        unsafe { read_volatile(&raw const (*self.shared).marks[word]) }
    }

    #[inline(always)]
    fn sieve(&self, bit: u32) -> bool {
        let word = (bit >> 6 & (SIEVE_WORDS - 1)) as usize;
        // SAFETY: `word` was just bounded; the value is never freed.
        let word = unsafe { read_volatile(&raw const (*self.shared).sieve[word]) };
        word >> (bit & 63) & 1 == 1
    }

    #[inline(always)]
    fn filter(&self, bit: u32) -> bool {
        let word = (bit >> 6 & (FILTER_WORDS - 1)) as usize;
        // SAFETY: `word` was just bounded; the value is never freed.
        let word = unsafe { read_volatile(&raw const (*self.shared).filter[word]) };
        word >> (bit & 63) & 1 == 1
    }

    #[inline(always)]
    fn tables(&self) -> InForce {
        // SAFETY: the value of an array map, which is never freed while the program runs.
        let slot = unsafe { read_volatile(&raw const (*self.shared).state.slot) } & (SLOTS - 1);
        InForce { slot, shared: self.shared }
    }

    #[inline(always)]
    fn decide6(&self, high: u64, low: u64) -> Cell {
        Cell(weir_search6(high, low))
    }
}

impl Tables for InForce {
    #[inline(always)]
    fn pages(&self) -> u32 {
        // SAFETY: the index is 0 or 1, the value is never freed.
        unsafe { read_volatile(&raw const (*self.shared).state.pages[self.slot as usize & 1]) }
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let line = ARENAS.get_value_ptr_mut(self.slot, &(at / LINE_WORDS))?;
        let first = (at & (LINE_WORDS - N as u32)) as usize;
        // SAFETY: N divides the line, so N words from a multiple of N lie within it.
        let words = unsafe { (&raw const (*line).words).cast::<u32>().add(first) };
        let mut copy = [0; N];
        let mut index = 0;
        while index < N {
            // SAFETY: `index` is below N; see above.
            copy[index] = unsafe { read_volatile(words.add(index)) };
            index += 1;
        }
        Some(copy)
    }

    #[inline(always)]
    fn lengths(&self) -> (u32, bool) {
        // SAFETY: `slot` is 0 or 1, the value is never freed.
        let lengths = unsafe { &raw const (*self.shared).state.lengths[self.slot as usize & 1] };
        // SAFETY: as above.
        let count = unsafe { read_volatile(&raw const (*lengths).count) };
        // SAFETY: as above.
        let allowed = unsafe { read_volatile(&raw const (*lengths).allowed) };
        (count, allowed != 0)
    }

    #[inline(always)]
    fn length(&self, index: u32) -> u8 {
        let (slot, index) = (self.slot as usize & 1, index as usize & 127);
        // SAFETY: both are within their arrays, the value is never freed.
        unsafe { read_volatile(&raw const (*self.shared).state.lengths[slot].lengths[index]) }
    }

    #[inline(always)]
    fn exact(&self, key: &Key6) -> Option<Cell> {
        let cell = PREFIXES6.get_value_ptr_mut(self.slot, key)?;
        // SAFETY: the kernel frees the entry only after this run; a word is read at once.
        Some(Cell(unsafe { read_volatile(cell) }))
    }
}

/// The search through the prefixes of IPv6. Exported, so that the verifier looks at it once, not once
/// for every way on which a packet comes here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_search6(high: u64, low: u64) -> u32 {
    match Gate::open() {
        Some(gate) => search6(&gate.tables(), high, low).0,
        None => Cell::CLEAN.0,
    }
}
