//! The maps of the flood guard.

use aya_ebpf::helpers::bpf_jiffies64;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key as Prefix;
use aya_ebpf::maps::{Array, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use core::ptr::{read_volatile, write_volatile};
use weir_abi::guard::{
    Bucket, Cells, Counter, GUARDED_MAX, Guard, HEAVY_MAX, Key, PROVEN_MAX, SKETCH_CELLS,
    SKETCH_ROWS, State, Switch,
};
use weir_abi::{Address, Drop, Verdict};

const MMAPABLE: u32 = 1 << 10;
const NO_PREALLOC: u32 = 1;
/// Prefixes that nothing touches.
const ALLOWED_MAX: u32 = 65_536;
const EVENTS_SIZE: u32 = 4_096 * 4;
const CELLS: usize = (SKETCH_ROWS * SKETCH_CELLS) as usize;

/// Switches, limits and keys. Written through memory that user space shares.
#[map]
static GUARD_STATE: Array<State> = Array::with_max_entries(1, MMAPABLE);

/// How each VIP and listener is guarded. Written in the same way.
#[map]
static GUARDS: Array<Guard> = Array::with_max_entries(GUARDED_MAX, MMAPABLE);

#[map]
static GUARD_COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(GUARDED_MAX, 0);

/// What would have become of packets, by [`Verdict::index`], where it was only tried.
#[map]
static GUARD_TRIED: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);

#[map]
static SKETCH: Array<[u32; CELLS]> = Array::with_max_entries(1, 0);

/// Sources whose number in the sketch is over their limit.
#[map]
static HEAVY: LruHashMap<Key, Bucket> = LruHashMap::with_max_entries(HEAVY_MAX, 0);

/// Sources that have answered a challenge, with when, ticks.
#[map]
static PROVEN: LruHashMap<Address, u32> = LruHashMap::with_max_entries(PROVEN_MAX, 0);

/// Sources that nothing here touches.
#[map]
static GUARD_ALLOWED: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(ALLOWED_MAX, NO_PREALLOC);

/// Sources that stay over their limit, told once each.
#[map]
static GUARD_EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_SIZE, 0);

/// Where switches, limits and keys are. `None` never happens, but the verifier wants to be told.
#[inline(always)]
pub fn state() -> Option<&'static State> {
    // SAFETY: the value of an array map, never freed; what is read once is a number whatever it is.
    GUARD_STATE.get_ptr(0).map(|state| unsafe { &*state })
}

/// Bits of [`Switch`].
#[inline(always)]
pub fn switches() -> u32 {
    // SAFETY: as above.
    GUARD_STATE.get_ptr(0).map_or(0, |it| unsafe { read_volatile(&raw const (*it).switches) })
}

/// Whether a switch is on.
#[inline(always)]
pub fn is_on(switch: Switch) -> bool {
    switches() & switch as u32 != 0
}

/// How a VIP or listener is guarded.
#[inline(always)]
pub fn guard(number: u32) -> Option<&'static Guard> {
    // SAFETY: as above.
    GUARDS.get_ptr(number).map(|guard| unsafe { &*guard })
}

/// What this CPU counts for it.
#[inline(always)]
pub fn counter(number: u32) -> Option<&'static mut Counter> {
    // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
    GUARD_COUNTERS.get_ptr_mut(number).map(|counter| unsafe { &mut *counter })
}

/// Counts what would have become of a packet.
#[inline(always)]
pub fn count_tried(verdict: Verdict) {
    if let Some(count) = GUARD_TRIED.get_ptr_mut(verdict.index()) {
        // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
        unsafe { *count += 1 };
    }
}

/// Whether nothing touches a source.
#[inline(always)]
pub fn is_allowed(source: Address) -> bool {
    if !is_on(Switch::HasAllowed) {
        return false;
    }
    let bits = u128::from(source.high) << 64 | u128::from(source.low);
    GUARD_ALLOWED.get(Prefix::new(128, bits.to_be_bytes())).is_some()
}

/// What is counted of a key that is counted by itself.
#[inline(always)]
pub fn bucket(key: &Key) -> Option<&'static mut Bucket> {
    // SAFETY: an entry is freed only after this run; CPUs that count at once lose a few.
    HEAVY.get_ptr_mut(key).map(|bucket| unsafe { &mut *bucket })
}

/// Counts a key by itself from now on.
#[inline(always)]
pub fn promote(key: &Key, bucket: &Bucket) {
    // Where there is no memory it stays in the sketch.
    let _ = HEAVY.insert(key, bucket, 0);
}

/// When a source has proven to be there, ticks.
#[inline(always)]
pub fn proven(source: Address) -> Option<u32> {
    // SAFETY: an entry is freed only after this run.
    unsafe { PROVEN.get(source).copied() }
}

/// Notes that it has.
#[inline(always)]
pub fn prove(source: Address, tick: u32) {
    let _ = PROVEN.insert(source, tick, 0);
}

/// Notes how often a source came, if it is more often than any before.
#[inline(always)]
pub fn note_peak(kind: usize, seen: u32) {
    let Some(state) = GUARD_STATE.get_ptr_mut(0) else { return };
    if kind > 1 {
        return;
    }
    // SAFETY: the index is 0 or 1, the value is never freed; whoever writes last is nearly the largest.
    unsafe {
        let peak = &raw mut (*state).peaks[kind];
        if seen > read_volatile(peak) {
            write_volatile(peak, seen);
        }
    }
}

/// Tells user space of a source that stays over its limit.
#[inline(always)]
pub fn tell(key: &Key) -> bool {
    GUARD_EVENTS.output::<Key>(*key, 0).is_ok()
}

/// The clock of this CPU, which costs nothing: 100 to 1,000 a second.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

/// The cells of the sketch.
pub struct Sketch(pub *mut [u32; CELLS]);

impl Sketch {
    /// `None` never happens.
    #[inline(always)]
    pub fn open() -> Option<Self> {
        SKETCH.get_ptr_mut(0).map(Self)
    }
}

impl Cells for Sketch {
    #[inline(always)]
    fn load(&self, index: u32) -> u32 {
        // SAFETY: the index is bounded; the value is never freed.
        unsafe { read_volatile(&raw const (*self.0)[index as usize & (CELLS - 1)]) }
    }

    #[inline(always)]
    fn store(&self, index: u32, cell: u32) {
        // SAFETY: as above.
        unsafe { write_volatile(&raw mut (*self.0)[index as usize & (CELLS - 1)], cell) };
    }
}

/// The end of a packet that the guard objects to, unless its source is one that nothing touches, or it
/// is only tried.
#[inline(always)]
pub fn refuse(source: Address, why: Drop, is_tried: bool) -> Result<(), weir_abi::End> {
    if is_allowed(source) {
        return Ok(());
    }
    if is_tried || is_on(Switch::TryAll) {
        count_tried(Verdict::Drop(why));
        return Ok(());
    }
    Err(weir_abi::End::dropped(why))
}
