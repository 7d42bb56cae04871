//! Every verdict is counted by its reason, on the CPU that reached it.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use weir_abi::{Counter, End, Verdict};

/// By `Verdict::index`.
#[map]
static VERDICTS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);

/// Counts a packet; answers how many of its kind this CPU has seen.
#[inline(always)]
pub fn end(end: End, length: usize) -> u64 {
    let Some(counter) = VERDICTS.get_ptr_mut(end.index()) else { return 0 };
    // SAFETY: the pointer is to this CPU's own value, and nothing else on this CPU runs meanwhile.
    let counter = unsafe { &mut *counter };
    counter.packets += 1;
    counter.bytes += length as u64;
    counter.packets
}
