//! The way of a packet, in the driver, on one screen.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use weir_abi::{Packet, Pass, Transport, Verdict, wire};
use weir_xdp::{Frame, admit, count, sample};

#[inline(always)]
fn balance(packet: &impl Packet) -> Result<Verdict, Verdict> {
    let flow = wire::flow(packet)?; // headers → Flow          (abi/src/wire.rs, host-tested)
    let admitted = admit::source(packet, flow.network)?; // allow, ban (admit.rs)
    Ok(pass(flow.transport, admitted))
}

/// What nothing objects to goes on to the kernel's network stack.
#[inline(always)]
fn pass(transport: Transport, admitted: Pass) -> Verdict {
    match (transport, admitted) {
        (Transport::Unparsed, Pass::Clean) => Verdict::Pass(Pass::Unparsed),
        _ => Verdict::Pass(admitted),
    }
}

/// Every packet of the interface.
#[xdp]
pub fn weir(context: XdpContext) -> u32 {
    let frame = Frame(&context);
    let (Ok(verdict) | Err(verdict)) = balance(&frame);
    let count = count::verdict(verdict, frame.length());
    match verdict {
        Verdict::Pass(_) => XDP_PASS,
        Verdict::Drop(_) => {
            sample::drop(&context, verdict, count);
            XDP_DROP
        }
    }
}
