//! A look at dropped packets: one in many is logged, when the operator asked for it.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use weir_abi::{Network, Packet, Verdict, wire};

use crate::frame::Frame;

/// One dropped packet of a reason in so many is logged, by CPU; 0 is none. Set by user space before
/// the program is loaded, so that the verifier removes what is off.
#[unsafe(no_mangle)]
static SAMPLE_EVERY: u64 = 0;

/// Logs a dropped packet if it is its turn; `count` is how many of its kind this CPU has seen.
#[inline(always)]
pub fn drop(context: &XdpContext, verdict: Verdict, count: u64) {
    // SAFETY: the loader replaces the value before the kernel sees it; the compiler must not
    // take the one written here for granted.
    let every = unsafe { core::ptr::read_volatile(&raw const SAMPLE_EVERY) };
    if every == 0 || count % every != 1 % every {
        return;
    }
    let reason = verdict.reason();
    let frame = Frame(context);
    let Ok(flow) = wire::flow(&frame) else {
        debug!(context, "drop {}, {} so far on this CPU", reason, count);
        return;
    };
    match flow.network {
        Network::V4(at) => {
            let source = frame.read_u32(at + 12).unwrap_or(0);
            debug!(context, "drop {} from {:i}, {} so far on this CPU", reason, source, count);
        }
        Network::V6(at) => {
            let source = frame.read::<16>(at + 8).unwrap_or([0; 16]);
            debug!(context, "drop {} from {:i}, {} so far on this CPU", reason, source, count);
        }
    }
}
