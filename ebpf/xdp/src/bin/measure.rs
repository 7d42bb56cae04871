//! What the ban stage costs: the same packets with and without it, and with what others use. For
//! `cargo xtask bench bans` alone.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{HashMap, LpmTrie, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use weir_abi::wire::V4;
use weir_abi::{Address, Packet, wire};
use weir_xdp::{Frame, admit};

const BPF_F_NO_PREALLOC: u32 = 1;

/// What the ban stage was once: a prefix tree of the kernel.
#[map]
static TRIE: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
/// What ipset and others use for single addresses.
#[map]
static HASH: HashMap<[u8; 4], u32> = HashMap::with_max_entries(1, 0);
/// The state of the sequence of sources.
#[map]
static SEQUENCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn next_source() -> u32 {
    let Some(state) = SEQUENCE.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own value.
    let state = unsafe { &mut *state };
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 32) as u32
}

#[inline(always)]
fn run(context: &XdpContext, random: bool, stage: impl FnOnce(u32, &Frame) -> bool) -> u32 {
    let frame = Frame(context.ctx);
    let Ok(flow) = wire::flow(&frame) else { return XDP_ABORTED };
    // Whatever the stage is, the headers must have been read.
    if flow.protocol == 253 || flow.family != V4 {
        return XDP_ABORTED;
    }
    let source = if random { next_source() } else { flow.source.low as u32 };
    if stage(source, &frame) { XDP_DROP } else { XDP_PASS }
}

#[inline(always)]
fn without(source: u32, _: &Frame) -> bool {
    source == 0
}

#[inline(always)]
fn bans(source: u32, frame: &Frame) -> bool {
    admit::v4(source, frame, Address::v4(source)).is_err()
}

#[inline(always)]
fn trie(source: u32, _: &Frame) -> bool {
    TRIE.get(&Key::new(32, source.to_be_bytes())).is_some()
}

#[inline(always)]
fn hash(source: u32, _: &Frame) -> bool {
    // SAFETY: nothing is removed while this is measured.
    unsafe { HASH.get(&source.to_be_bytes()) }.is_some()
}

macro_rules! measured {
    ($($name:ident, $random:literal, $stage:path;)*) => {$(
        #[doc = "One of the pairs that are compared."]
        #[xdp]
        pub fn $name(context: XdpContext) -> u32 {
            run(&context, $random, $stage)
        }
    )*};
}

measured! {
    same_without, false, without;
    same_bans, false, bans;
    same_trie, false, trie;
    same_hash, false, hash;
    random_without, true, without;
    random_bans, true, bans;
    random_trie, true, trie;
    random_hash, true, hash;
}

/// Nothing at all.
#[xdp]
pub fn empty(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Sends a frame back out as it came.
#[xdp]
pub fn flood(_: XdpContext) -> u32 {
    XDP_TX
}
