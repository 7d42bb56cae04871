//! A look at dropped packets: one in many is logged, when the operator asked for it.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use weir_abi::wire::V4;
use weir_abi::{End, wire};

use crate::frame::Frame;

/// One dropped packet of a reason in so many is logged, by CPU; 0 is none. Set by user space before
/// the program is loaded, so that the verifier removes what is off.
#[unsafe(no_mangle)]
static SAMPLE_EVERY: u64 = 0;

/// Logs a dropped packet if it is its turn; `count` is how many of its kind this CPU has seen.
#[inline(always)]
pub fn drop(context: &XdpContext, end: End, count: u64) {
    // SAFETY: the loader replaces the value before the kernel sees it; the compiler must not
    // take the one written here for granted.
    let every = unsafe { core::ptr::read_volatile(&raw const SAMPLE_EVERY) };
    if every == 0 || count % every != 1 % every {
        return;
    }
    // A table of words would need relocations that the loader does not know.
    let reason = end.index();
    let frame = Frame(context.ctx);
    let Ok(flow) = wire::flow(&frame) else {
        debug!(context, "drop {}, {} so far on this CPU", reason, count);
        return;
    };
    if flow.family == V4 {
        let source = flow.source.low as u32;
        debug!(context, "drop {} from {:i}, {} so far on this CPU", reason, source, count);
    } else {
        let halves = [flow.source.high, flow.source.low].map(u64::to_be_bytes);
        let mut source = [0; 16];
        source[..8].copy_from_slice(&halves[0]);
        source[8..].copy_from_slice(&halves[1]);
        debug!(context, "drop {} from {:i}, {} so far on this CPU", reason, source, count);
    }
}
