//! Which sources may send at all: the bans, and the allow list above them.

use weir_abi::ban::{self, Kind, SEEN_WORD, State};
use weir_abi::{Drop, Flow, Pass, Verdict};

use crate::event;
use crate::tables::{self, InForce};

/// Ends the way of a packet whose source is banned; else tells as what it goes on.
#[inline(always)]
pub fn source(flow: &Flow, size: usize) -> Result<Pass, Verdict> {
    let Some(state) = tables::state() else { return Ok(Pass::Clean) };
    let Some(tables) = InForce::of(state) else { return Ok(Pass::Clean) };
    let (record, is_tried) = match ban::find(&tables, flow.source) {
        Kind::Ban(record) => (record, is_dry_run(state)),
        Kind::DryRun(record) => (record, true),
        Kind::Allowed(_) => return Ok(Pass::Allowed),
        _ => return Ok(Pass::Clean),
    };
    let verdict =
        if is_tried { Verdict::Pass(Pass::WouldDrop) } else { Verdict::Drop(Drop::Banned) };
    if let Some(record) = tables.record(record) {
        count(state, record, size);
        event::tell(state, record, flow.source, verdict, size);
    }
    if is_tried { Ok(Pass::WouldDrop) } else { Err(verdict) }
}

#[inline(always)]
fn is_dry_run(state: *const State) -> bool {
    // SAFETY: the value of an array map, never freed while the program runs.
    unsafe { core::ptr::read_volatile(&raw const (*state).dry_run) != 0 }
}

/// Counts a packet for a ban. Shared by all CPUs, so with atomic additions.
#[inline(always)]
fn count(state: *const State, record: *mut [u32; 8], size: usize) {
    let counters = record.cast::<u64>();
    // SAFETY: a record has eight words and begins at a multiple of them: two aligned u64 that live
    // as long as the program runs.
    unsafe { add(counters, 1) };
    // SAFETY: as above.
    unsafe { add(counters.add(1), size as u64) };
    // SAFETY: the value of an array map, never freed while the program runs.
    let now = unsafe { core::ptr::read_volatile(&raw const (*state).now) };
    // SAFETY: word 4 of a record's eight.
    unsafe { core::ptr::write_volatile(record.cast::<u32>().add(SEEN_WORD as usize), now) };
}

/// Adds atomically. The language's own atomics have no addition on this target.
///
/// # Safety
/// `sum` is aligned and lives in a map's value.
#[inline(always)]
unsafe fn add(sum: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("lock *(u64 *)({sum} + 0) += {value}", sum = in(reg) sum, value = in(reg) value);
    }
}
