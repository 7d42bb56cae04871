//! Drops as events, for whoever watches: so many a second and CPU, the rest is counted.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use core::ptr::read_volatile;
use weir_abi::ban::{Event, EventMeter, LENGTH_WORD, RECORD6_FLAG, State};
use weir_abi::{Address, Packet, Verdict};

/// Events a CPU tells in a second.
const RATE_MAX: u32 = 1_000;
/// Bytes of the ring: room for some 3,000 events.
const RING_SIZE: u32 = 256 * 1024;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_SIZE, 0);

#[map]
static EVENT_METERS: PerCpuArray<EventMeter> = PerCpuArray::with_max_entries(1, 0);

/// Whether anybody wants to be told.
#[inline(always)]
pub fn is_watched(state: *const State) -> bool {
    // SAFETY: the value of an array map, never freed while the program runs.
    unsafe { read_volatile(&raw const (*state).watched) != 0 }
}

/// Tells of a packet, if it is its turn.
#[inline(always)]
pub fn tell(
    state: *const State,
    record: *const [u32; 8],
    packet: &impl Packet,
    source: Address,
    verdict: Verdict,
) {
    // SAFETY: the value of an array map, never freed while the program runs.
    let now = unsafe { read_volatile(&raw const (*state).now) };
    let Some(meter) = EVENT_METERS.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
    let meter = unsafe { &mut *meter };
    if meter.second != now {
        meter.second = now;
        meter.told = 0;
    }
    if meter.told >= RATE_MAX {
        meter.limited += 1;
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        meter.overflowed += 1;
        return;
    };
    meter.told += 1;
    // SAFETY: word 5 of a record's eight.
    let length = unsafe { read_volatile(record.cast::<u32>().add(LENGTH_WORD as usize)) };
    entry.write(Event {
        // SAFETY: a helper without arguments.
        time: unsafe { bpf_ktime_get_ns() },
        source: [source.high.to_be(), source.low.to_be()],
        size: packet.length() as u32,
        length: length as u8,
        verdict: verdict.index() as u8,
        family: if length & RECORD6_FLAG == 0 { 4 } else { 6 },
        unused: 0,
    });
    entry.submit(0);
}
