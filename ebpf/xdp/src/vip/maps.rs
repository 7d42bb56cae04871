//! The maps of layer 4.

use aya_ebpf::btf_maps::{Array as BtfArray, ArrayOfMaps};
use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use core::ptr::read_volatile;
use weir_abi::Address;
use weir_abi::vip::{
    self, BACKENDS_MAX, BackendCounter, BackendEntry, DIRECTORY, Entry, FILTER_WORDS, FlowKey,
    FlowValue, Fragment, FragmentKey, Hop, Move, NatValue, SLOT_WORDS, SLOTS, ServerKey, State,
    TICK_BITS, VIPS_MAX, VipCounter, filter_bit,
};

use super::way::Notes;

const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

/// Flows that are remembered unless configured: those of moving slots, and those of NAT.
const FLOWS_MAX: u32 = 65_536;
/// Datagrams in fragments that are under way.
const FRAGMENTS_MAX: u32 = 8_192;

/// The switches and the filter. Written through memory that user space shares.
#[map]
static BALANCER: Array<State> = Array::with_max_entries(1, MMAPABLE);

/// What addresses, ports and protocols are to us; replaced whole.
#[btf_map]
static DIRECTORIES: ArrayOfMaps<BtfArray<Entry, { DIRECTORY as usize }, { MMAPABLE as usize }>, 1> =
    ArrayOfMaps::new();

/// Tables of slots, four a word; replaced whole.
#[btf_map]
static SLOT_TABLES: ArrayOfMaps<
    BtfArray<u64, { SLOT_WORDS as usize }, { MMAPABLE as usize }>,
    { VIPS_MAX as usize },
> = ArrayOfMaps::new();

/// What slots that are moving were before; no table where none is.
#[btf_map]
static MOVE_TABLES: ArrayOfMaps<
    BtfArray<Move, { SLOTS as usize }, { MMAPABLE as usize }>,
    { VIPS_MAX as usize },
> = ArrayOfMaps::new();

#[map]
static BACKENDS: Array<BackendEntry> = Array::with_max_entries(BACKENDS_MAX, MMAPABLE);

#[map]
static HOPS: PerCpuArray<Hop> = PerCpuArray::with_max_entries(BACKENDS_MAX, 0);

/// Flows in slots that are moving.
#[map]
static FLOWS: LruHashMap<FlowKey, FlowValue> = LruHashMap::with_max_entries(FLOWS_MAX, 0);

/// Answers of backends behind NAT.
#[map]
static NAT_FLOWS: LruHashMap<FlowKey, NatValue> = LruHashMap::with_max_entries(FLOWS_MAX, 0);

#[map]
static FRAGMENTS: LruHashMap<FragmentKey, Fragment> =
    LruHashMap::with_max_entries(FRAGMENTS_MAX, 0);

/// Backends by the server's id of QUIC.
#[map]
static SERVERS: HashMap<ServerKey, u32> = HashMap::with_max_entries(BACKENDS_MAX, NO_PREALLOC);

#[map]
static VIP_COUNTERS: PerCpuArray<VipCounter> = PerCpuArray::with_max_entries(VIPS_MAX, 0);

#[map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounter> =
    PerCpuArray::with_max_entries(BACKENDS_MAX, 0);

#[map]
static NOTES: PerCpuArray<Notes> = PerCpuArray::with_max_entries(1, 0);

/// The time, ticks.
#[inline(always)]
pub fn tick() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_BITS) as u32
}

/// What this CPU knows of the packet in hand.
#[inline(always)]
pub fn notes() -> Option<&'static mut Notes> {
    // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
    NOTES.get_ptr_mut(0).map(|found| unsafe { &mut *found })
}

/// Where the switches are.
#[inline(always)]
pub fn state() -> Option<*const State> {
    BALANCER.get_ptr(0)
}

/// Whether the directory may have an address.
#[inline(always)]
pub fn may_know(state: *const State, address: Address) -> bool {
    let bit = filter_bit(address);
    let word = (bit >> 6) as usize & (FILTER_WORDS - 1);
    // SAFETY: `word` was just bounded; the value of an array map is never freed.
    unsafe { read_volatile(&raw const (*state).filter[word]) >> (bit & 63) & 1 == 1 }
}

/// Whether sources may be backends behind NAT.
#[inline(always)]
pub fn has_nat(state: *const State) -> bool {
    // SAFETY: the value of an array map is never freed.
    unsafe { read_volatile(&raw const (*state).has_nat) != 0 }
}

/// The UDP port of GUE.
#[inline(always)]
pub fn gue_port() -> u16 {
    // SAFETY: the value of an array map is never freed.
    state().map_or(0, |state| unsafe { read_volatile(&raw const (*state).gue_port) } as u16)
}

/// The directory in force.
pub struct Directory;

impl vip::Directory for Directory {
    type Found = *const Entry;

    #[inline(always)]
    fn entry(&self, index: u32) -> Option<*const Entry> {
        DIRECTORIES.get_value_ptr_mut(0, &index).map(<*mut Entry>::cast_const)
    }

    #[inline(always)]
    fn key(&self, found: *const Entry) -> (Address, u32) {
        // SAFETY: the value of an array map, freed only after this run.
        let entry = unsafe { &*found };
        (Address { high: entry.high, low: entry.low }, entry.key)
    }
}

/// Four slots of a table.
#[inline(always)]
pub fn slots(table: u32, word: u32) -> Option<u64> {
    let slots = SLOT_TABLES.get_value_ptr_mut(table, &word)?;
    // SAFETY: the value of an array map, freed only after this run.
    Some(unsafe { read_volatile(slots) })
}

/// What a slot that is moving was before.
#[inline(always)]
pub fn moving(table: u32, slot: u32) -> Option<*mut Move> {
    MOVE_TABLES.get_value_ptr_mut(table, &slot)
}

#[inline(always)]
pub fn backend(number: u32) -> Option<&'static BackendEntry> {
    // SAFETY: the value of an array map is never freed; user space changes one only while no slot has
    // its number.
    BACKENDS.get_ptr(number).map(|found| unsafe { &*found })
}

#[inline(always)]
pub fn hop(number: u32) -> Option<*mut Hop> {
    HOPS.get_ptr_mut(number)
}

#[inline(always)]
pub fn flow(key: &FlowKey) -> Option<*mut FlowValue> {
    FLOWS.get_ptr_mut(key)
}

#[inline(always)]
pub fn remember(key: &FlowKey, value: &FlowValue) {
    // The least recently seen one gives way, so there is always room.
    let _ = FLOWS.insert(key, value, 0);
}

#[inline(always)]
pub fn nat_flow(key: &FlowKey) -> Option<*const NatValue> {
    NAT_FLOWS.get_ptr(key)
}

#[inline(always)]
pub fn remember_nat(key: &FlowKey, value: &NatValue) {
    let _ = NAT_FLOWS.insert(key, value, 0);
}

#[inline(always)]
pub fn fragment(key: &FragmentKey) -> Option<*const Fragment> {
    FRAGMENTS.get_ptr(key)
}

#[inline(always)]
pub fn remember_fragment(key: &FragmentKey, value: &Fragment) {
    let _ = FRAGMENTS.insert(key, value, 0);
}

#[inline(always)]
pub fn server(key: &ServerKey) -> Option<u32> {
    // SAFETY: a word is read at once.
    SERVERS.get_ptr(key).map(|found| unsafe { read_volatile(found) })
}

#[inline(always)]
pub fn vip_counter(vip: u32) -> Option<&'static mut VipCounter> {
    // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
    VIP_COUNTERS.get_ptr_mut(vip).map(|found| unsafe { &mut *found })
}

#[inline(always)]
pub fn backend_counter(backend: u32) -> Option<&'static mut BackendCounter> {
    // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
    BACKEND_COUNTERS.get_ptr_mut(backend).map(|found| unsafe { &mut *found })
}
