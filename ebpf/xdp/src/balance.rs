//! The way of a packet, in the driver, on one screen.

use aya_ebpf::bindings::xdp_md;
use weir_abi::wire::{self, ETHERTYPE_IPV4};
use weir_abi::{End, Flow, Pass, Shape, Verdict};

use crate::{Frame, admit, vip};

/// The end of a packet's way.
#[inline(always)]
pub fn balance(frame: &Frame) -> Result<End, End> {
    let end = match wire::network(frame)? {
        (at, ETHERTYPE_IPV4) => ip(frame, wire::ipv4(frame, at))?,
        (at, _) => End(weir_ipv6(frame.0, at as u32)),
    };
    Ok(if end == End::SERVE { vip::serve(frame) } else { end }) // which backend, and how (vip/mod.rs)
}

/// The first steps of a packet whose headers were read (abi/src/wire.rs, host-tested).
#[inline(always)]
fn ip(frame: &Frame, flow: Result<Flow, Verdict>) -> Result<End, End> {
    let flow = flow?;
    let admitted = admit::source(frame, &flow)?; // allow, ban  (admit.rs)
    Ok(vip::note(&flow, pass(flow.shape, admitted))) // for a VIP? (vip/mod.rs)
}

/// The same way for IPv6. Exported, so that the verifier looks at it by itself: both together are
/// more than it can follow.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_ipv6(context: *mut xdp_md, at: u32) -> u64 {
    let frame = Frame(context);
    let (Ok(end) | Err(end)) = ip(&frame, wire::ipv6(&frame, at as usize & 31));
    end.0
}

/// What nothing objects to goes on to the kernel's network stack.
#[inline(always)]
fn pass(shape: Shape, admitted: Pass) -> End {
    match (shape, admitted) {
        (Shape::Unparsed, Pass::Clean) => End::of(Verdict::Pass(Pass::Unparsed)),
        _ => End::of(Verdict::Pass(admitted)),
    }
}
