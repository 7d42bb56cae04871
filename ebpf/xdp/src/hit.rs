//! Packets and bytes counted for bans: on this CPU first, added to the record when another one comes.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use core::ptr::{read_volatile, write_volatile};
use weir_abi::ban::{PENDING, Pending, SEEN_WORD, State};

use crate::tables::InForce;

/// By the last bits of a record's number.
#[map]
static PENDING_HITS: PerCpuArray<Pending> = PerCpuArray::with_max_entries(PENDING, 0);

/// Counts a packet of `size` bytes for a record.
#[inline(always)]
pub fn count(state: *const State, tables: &InForce, record: u32, size: usize) {
    let Some(pending) = PENDING_HITS.get_ptr_mut(record & (PENDING - 1)) else { return };
    // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
    let pending = unsafe { &mut *pending };
    // SAFETY: the value of an array map, never freed while the program runs.
    let generation = unsafe { read_volatile(&raw const (*state).generation) };
    // SAFETY: as above.
    let now = unsafe { read_volatile(&raw const (*state).now) };
    if pending.record != record || pending.generation != generation {
        if pending.generation == generation {
            add(tables, pending);
        }
        *pending = Pending { record, generation, ..Pending::NONE };
    }
    pending.packets += 1;
    pending.bytes += size as u64;
    pending.seen = now;
}

/// Adds what this CPU has counted to a record, which all of them share.
#[inline(always)]
fn add(tables: &InForce, pending: &Pending) {
    let Some(record) = tables.record(pending.record) else { return };
    let counters = record.cast::<u64>();
    // SAFETY: a record has eight words and begins at a multiple of them: two aligned u64 that live
    // as long as the program runs.
    unsafe { add_atomically(counters, pending.packets) };
    // SAFETY: as above.
    unsafe { add_atomically(counters.add(1), pending.bytes) };
    // SAFETY: word 4 of a record's eight.
    unsafe { write_volatile(record.cast::<u32>().add(SEEN_WORD as usize), pending.seen) };
}

/// The language's own atomics have no addition on this target.
///
/// # Safety
/// `sum` is aligned and lives in a map's value.
#[inline(always)]
unsafe fn add_atomically(sum: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("lock *(u64 *)({sum} + 0) += {value}", sum = in(reg) sum, value = in(reg) value);
    }
}
