//! Which listener gets a connection to an address that nobody is bound to: the first whose rule covers it.
#![no_std]
#![no_main]

use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::macros::{map, sk_lookup};
use aya_ebpf::maps::{Array, SockMap};
use aya_ebpf::programs::SkLookupContext;
use weir_abi::sock::{AF_INET, AF_INET6, RULES_MAX, Rule};
use weir_sock as _;

const TCP: u32 = 6;

/// The narrowest first; the first without a family ends them.
#[map]
static RULES: Array<Rule> = Array::with_max_entries(RULES_MAX, 0);

/// One of each listener, by rule. The program of its group selects between its reactors.
#[map]
static SOCKETS: SockMap = SockMap::with_max_entries(RULES_MAX, 0);

/// A packet for which there is no connection.
#[sk_lookup]
pub fn weir_lookup(context: SkLookupContext) -> u32 {
    // SAFETY: the kernel's context, of which the verifier checks each field that is read.
    let asked = unsafe { &*context.lookup };
    if asked.protocol != TCP {
        return SK_PASS;
    }
    let (family, port) = (asked.family, asked.local_port);
    let (high, low) = match family {
        AF_INET => (0, u64::from(u32::from_be(asked.local_ip4))),
        AF_INET6 => {
            let [a, b, c, d] = asked.local_ip6;
            (long(a, b), long(c, d))
        }
        _ => return SK_PASS,
    };
    for index in 0..RULES_MAX {
        let Some(rule) = RULES.get(index) else { break };
        if rule.family == 0 {
            break;
        }
        if rule.family == family
            && high & rule.mask_high == rule.high
            && low & rule.mask_low == rule.low
            && port >= rule.first_port
            && port <= rule.last_port
        {
            // Where it cannot be assigned, who is bound gets it, or nobody.
            let _ = SOCKETS.redirect_sk_lookup(&context, index, 0);
            break;
        }
    }
    SK_PASS
}

#[inline(always)]
fn long(high: u32, low: u32) -> u64 {
    u64::from(u32::from_be(high)) << 32 | u64::from(u32::from_be(low))
}
