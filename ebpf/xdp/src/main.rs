//! The XDP program: takes a packet's way, counts how it ended, says so to the kernel.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use weir_abi::{End, Packet};
use weir_xdp::{Frame, balance, count, sample};

/// Every packet of the interface.
#[xdp]
pub fn weir(context: XdpContext) -> u32 {
    let frame = Frame(context.ctx);
    let size = frame.length();
    let (Ok(end) | Err(end)) = balance(&frame);
    let count = count::end(end, size);
    match end.kind() {
        End::PASS => XDP_PASS,
        End::DROP => {
            sample::drop(&context, end, count);
            XDP_DROP
        }
        // SAFETY: a helper that notes where the packet is to go.
        End::SEND if end.interface() != 0 => unsafe { bpf_redirect(end.interface(), 0) as u32 },
        _ => XDP_TX,
    }
}
