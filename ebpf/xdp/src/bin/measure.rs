//! What the ban stage costs, and what balancing does: the same packets with and without, and with what
//! others use. For `cargo xtask bench bans` and `l4` alone.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{
    bpf_tcp_raw_check_syncookie_ipv4, bpf_tcp_raw_gen_syncookie_ipv4,
};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use core::hint::black_box;
use weir_abi::wire::V4;
use weir_abi::{Address, End, Packet, wire};
use weir_xdp::{Frame, Span, admit, balance, count};

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

/// What the packet of `l4` and `shell` was, from the Ethernet header on.
#[map]
static TEMPLATE: Array<[u64; 6]> = Array::with_max_entries(1, 0);
/// How many flows there are, and to how many VIPs, less one: powers of two.
#[map]
static MASKS: Array<[u32; 2]> = Array::with_max_entries(1, 0);

/// The first of many VIPs: 203.0.0.0.
const FIRST_VIP: u32 = 0xcb00_0000;

/// A packet of the next flow.
#[inline(always)]
fn next_flow(frame: &Frame, is_v6: bool) -> Option<()> {
    let state = SEQUENCE.get_ptr_mut(0)?;
    let [flows, vips] = *MASKS.get(0)?;
    // SAFETY: this CPU's own value.
    let state = unsafe { &mut *state };
    *state = state.wrapping_add(1);
    // Another order than that of the slots.
    let flow = (*state as u32).wrapping_mul(0x9e37_79b1) >> 8 & flows;
    if is_v6 {
        let header = frame.span::<44>(14)?;
        header.put_u32::<20>(flow >> 14);
        header.put_u16::<40>(1024 + (flow & 0x3fff) as u16);
    } else {
        let header = frame.span::<24>(14)?;
        header.put_u32::<12>(0xc612_0000 | flow >> 14);
        if vips != 0 {
            header.put_u32::<16>(FIRST_VIP + (flow & vips));
        }
        header.put_u16::<20>(1024 + (flow & 0x3fff) as u16);
    }
    Some(())
}

/// The packet as it was, however it was encapsulated.
#[inline(always)]
fn restore(frame: &Frame, size: usize) -> Option<()> {
    let grown = black_box(frame.length()) as i32 - size as i32;
    if grown != 0 && !frame.grow(-grown) {
        return None;
    }
    let template = TEMPLATE.get_ptr(0)?;
    // SAFETY: written before the program runs.
    let template = unsafe { &*template };
    let header: Span<48> = frame.span(0)?;
    header.put_u64::<0>(template[0]);
    header.put_u64::<8>(template[1]);
    header.put_u64::<16>(template[2]);
    header.put_u64::<24>(template[3]);
    header.put_u64::<32>(template[4]);
    header.put_u64::<40>(template[5]);
    Some(())
}

#[inline(always)]
fn shell(context: &XdpContext, is_v6: bool, run: impl FnOnce(&Frame)) -> u32 {
    let frame = Frame(context.ctx);
    // A number of its own: the verifier would not let the compiler add pointers.
    let size = black_box(frame.length());
    if next_flow(&frame, is_v6).is_none() {
        return XDP_ABORTED;
    }
    run(&frame);
    if restore(&frame, size).is_none() { XDP_ABORTED } else { XDP_PASS }
}

#[inline(always)]
fn whole(frame: &Frame) {
    let size = frame.length();
    let (Ok(end) | Err(end)) = balance(frame);
    count::end(end, size);
}

/// All that the product does for a packet, which is then as it was.
#[xdp]
pub fn l4(context: XdpContext) -> u32 {
    shell(&context, false, whole)
}

/// The same for IPv6.
#[xdp]
pub fn l4_v6(context: XdpContext) -> u32 {
    shell(&context, true, whole)
}

/// The packet of the programs below: a TCP header of 40 bytes, nothing behind it.
#[map]
static SYN: Array<[u64; 12]> = Array::with_max_entries(1, 0);

/// The packet as it was, whatever was answered.
#[inline(always)]
fn restore_syn(frame: &Frame, size: usize, is_v6: bool) -> Option<()> {
    let surplus = black_box(frame.length()) as i32 - size as i32;
    if surplus != 0 && !frame.cut(surplus) {
        return None;
    }
    let template = SYN.get_ptr(0)?;
    // SAFETY: written before the program runs.
    let template = unsafe { &*template };
    macro_rules! put {
        ($span:ident, $($at:literal)*) => { $($span.put_u64::<{ $at * 8 }>(template[$at]);)* };
    }
    if is_v6 {
        let span: Span<94> = frame.span(0)?;
        put!(span, 0 1 2 3 4 5 6 7 8 9 10);
        span.put_u32::<88>((template[11] >> 32) as u32);
        span.put_u16::<92>((template[11] >> 16) as u16);
    } else {
        let span: Span<74> = frame.span(0)?;
        put!(span, 0 1 2 3 4 5 6 7 8);
        span.put_u16::<72>((template[9] >> 48) as u16);
    }
    Some(())
}

#[inline(always)]
fn syn_shell(context: &XdpContext, is_v6: bool, run: impl FnOnce(&Frame)) -> u32 {
    let frame = Frame(context.ctx);
    let size = black_box(frame.length());
    run(&frame);
    if restore_syn(&frame, size, is_v6).is_none() { XDP_ABORTED } else { XDP_PASS }
}

/// All that the product does for such a packet, which is then as it was.
#[xdp]
pub fn syn(context: XdpContext) -> u32 {
    syn_shell(&context, false, whole)
}

/// The same for IPv6.
#[xdp]
pub fn syn_v6(context: XdpContext) -> u32 {
    syn_shell(&context, true, whole)
}

/// What restoring costs.
#[xdp]
pub fn syn_nothing(context: XdpContext) -> u32 {
    syn_shell(&context, false, |_| ())
}

/// The same for IPv6.
#[xdp]
pub fn syn_v6_nothing(context: XdpContext) -> u32 {
    syn_shell(&context, true, |_| ())
}

/// A cookie by the helper alone.
#[xdp]
pub fn raw_cookie(context: XdpContext) -> u32 {
    syn_shell(&context, false, |frame| {
        let (Some(ip), Some(tcp)) = (frame.span::<20>(14), frame.span::<40>(34)) else { return };
        // SAFETY: a helper that reads 20 bytes of one and 40 of the other, which are there.
        black_box(unsafe { bpf_tcp_raw_gen_syncookie_ipv4(ip.pointer(), tcp.pointer(), 40) });
    })
}

/// The check of an ACK by the helper alone.
#[xdp]
pub fn raw_check(context: XdpContext) -> u32 {
    syn_shell(&context, false, |frame| {
        let (Some(ip), Some(tcp)) = (frame.span::<20>(14), frame.span::<20>(34)) else { return };
        // SAFETY: a helper that reads 20 bytes of each, which are there.
        black_box(unsafe { bpf_tcp_raw_check_syncookie_ipv4(ip.pointer(), tcp.pointer()) });
    })
}

/// All that the product does for a packet of another source each time.
#[xdp]
pub fn random_sources(context: XdpContext) -> u32 {
    syn_shell(&context, false, |frame| {
        if let Some(header) = frame.span::<20>(14) {
            header.put_u32::<12>(next_source());
        }
        whole(frame);
    })
}

/// What restoring costs: the packet grows, and nothing else happens.
#[xdp]
pub fn l4_shell(context: XdpContext) -> u32 {
    shell(&context, false, |frame| {
        frame.grow(20);
    })
}

/// All that the product does for a packet, which is not restored: for those that it leaves as they are.
#[xdp]
pub fn l4_plain(context: XdpContext) -> u32 {
    whole(&Frame(context.ctx));
    XDP_PASS
}

/// The same on an interface.
#[xdp]
pub fn l4_live(context: XdpContext) -> u32 {
    let frame = Frame(context.ctx);
    let size = frame.length();
    let (Ok(end) | Err(end)) = balance(&frame);
    count::end(end, size);
    match end.kind() {
        End::PASS => XDP_PASS,
        End::DROP => XDP_DROP,
        _ => XDP_TX,
    }
}

/// A frame of the next flow, out as it is.
#[xdp]
pub fn flood_flows(context: XdpContext) -> u32 {
    match next_flow(&Frame(context.ctx), false) {
        Some(()) => XDP_TX,
        None => XDP_ABORTED,
    }
}

/// Where frames end.
#[xdp]
pub fn sink(_: XdpContext) -> u32 {
    XDP_DROP
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
