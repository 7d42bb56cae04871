//! Floods for tests and benchmarks: frames of random sources, as fast as they go. No part of the product.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use weir_abi::checksum::Sum;
use weir_abi::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use weir_abi::{Bytes, Packet};
use weir_xdp::{Frame, Span};

/// The frame, with zeros behind its end.
#[map]
static TEMPLATE: Array<[u64; 12]> = Array::with_max_entries(1, 0);
/// Bits of the source that are random.
#[map]
static SPREAD: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static SEQUENCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Frames are recycled as they came back, so all of a frame is written.
macro_rules! write_all {
    ($frame:ident, $template:ident, $($at:literal)*) => {
        $($frame.put_u64::<{ $at * 8 }>(u64::from_be($template[$at]));)*
    };
}

/// TCP over IPv4: another source, port and number each time. 80 bytes.
#[xdp]
pub fn tcp4(context: XdpContext) -> u32 {
    match send4(&Frame(context.ctx)) {
        Some(()) => XDP_TX,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn send4(frame: &Frame) -> Option<()> {
    let template = TEMPLATE.get(0)?;
    let span: Span<80> = frame.span(0)?;
    write_all!(span, template, 0 1 2 3 4 5 6 7 8 9);
    vary(frame.span(0)?)
}

/// The same without options: 54 bytes, as long as what answers a challenge. The kernel does not notice
/// that a frame comes back shorter.
#[xdp]
pub fn bare4(context: XdpContext) -> u32 {
    match send_bare(&Frame(context.ctx)) {
        Some(()) => XDP_TX,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn send_bare(frame: &Frame) -> Option<()> {
    let template = TEMPLATE.get(0)?;
    let span: Span<54> = frame.span(0)?;
    write_all!(span, template, 0 1 2 3 4 5);
    let last = u64::from_be(template[6]);
    span.put_u32::<48>((last >> 32) as u32);
    span.put_u16::<52>((last >> 16) as u16);
    vary(span)
}

#[inline(always)]
fn vary(span: Span<54>) -> Option<()> {
    let spread = *SPREAD.get(0)?;
    let (random, other) = (next()?, next()? as u32);
    let before = span.u32::<26>();
    let source = before & !spread | random as u32 & spread;
    let port = 1_024 + ((random >> 32) as u16 & 0x7fff);
    let number = span.u32::<38>() ^ other;
    let address = Sum::default().subtract(before).add(source);
    let all = address.subtract(span.u32::<38>()).add(number);
    let all = all.subtract(span.u16::<34>().into()).add(port.into());
    span.put_u32::<26>(source);
    span.put_u16::<34>(port);
    span.put_u32::<38>(number);
    span.put_u16::<24>(address.applied_to(span.u16::<24>()));
    span.put_u16::<50>(all.applied_to(span.u16::<50>()));
    Some(())
}

/// The same over IPv6. 96 bytes.
#[xdp]
pub fn tcp6(context: XdpContext) -> u32 {
    match send6(&Frame(context.ctx)) {
        Some(()) => XDP_TX,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn send6(frame: &Frame) -> Option<()> {
    let (template, spread) = (TEMPLATE.get(0)?, *SPREAD.get(0)?);
    let span: Span<96> = frame.span(0)?;
    write_all!(span, template, 0 1 2 3 4 5 6 7 8 9 10 11);
    let (random, other) = (next()?, next()? as u32);
    // In the network's part of the address: who counts by /64 sees another source.
    let before = span.u32::<26>();
    let source = before & !spread | random as u32 & spread;
    let port = 1_024 + ((random >> 32) as u16 & 0x7fff);
    let number = span.u32::<58>() ^ other;
    let all = Sum::default().subtract(before).add(source).subtract(span.u32::<58>()).add(number);
    let all = all.subtract(span.u16::<54>().into()).add(port.into());
    span.put_u32::<26>(source);
    span.put_u16::<54>(port);
    span.put_u32::<58>(number);
    span.put_u16::<70>(all.applied_to(span.u16::<70>()));
    Some(())
}

/// splitmix64
#[inline(always)]
fn next() -> Option<u64> {
    let state = SEQUENCE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value.
    let state = unsafe { &mut *state };
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(word ^ word >> 31)
}

/// Where answers to a flood end; those to hosts of the tests (from 64.0.0.0 on, or fd00::/8) go on.
#[xdp]
pub fn sink(context: XdpContext) -> u32 {
    let frame = Frame(context.ctx);
    let Some(header) = frame.span::<39>(0) else { return XDP_PASS };
    let is_ours = match header.u16::<12>() {
        ETHERTYPE_IPV4 => header.u8::<30>() >= 64,
        ETHERTYPE_IPV6 => header.u8::<38>() == 0xfd,
        _ => true,
    };
    if is_ours { XDP_PASS } else { XDP_DROP }
}

/// What a veth needs to take frames of XDP.
#[xdp]
pub fn pass(_: XdpContext) -> u32 {
    XDP_PASS
}
