//! The decapsulator for backends: takes packets for a VIP out of what the balancer wrapped them in.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use weir_abi::decap::{ADDRESSES_MAX, Inside, OUTCOMES, Outcome, inside};
use weir_abi::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, V4};
use weir_abi::{Address, Bytes, Packet};
use weir_xdp::{Frame, Skb};

/// The UDP port of GUE. Set by user space before the program is loaded.
#[unsafe(no_mangle)]
static GUE_PORT: u16 = 0;

/// The VIPs of this host: nothing else is unwrapped.
#[map]
static ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(ADDRESSES_MAX, 0);

/// Packets, by [`Outcome`].
#[map]
static OUTCOME_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(OUTCOMES, 0);

/// Every packet of the interface.
#[xdp]
pub fn weir_decap(context: XdpContext) -> u32 {
    let frame = Frame(context.ctx);
    // SAFETY: the loader replaces the value before the kernel sees it.
    let port = unsafe { core::ptr::read_volatile(&raw const GUE_PORT) };
    let outcome = match inside(&frame, port) {
        Ok(inside) => unwrap(&frame, &inside),
        Err(outcome) => outcome,
    };
    count(outcome);
    if outcome == Outcome::Malformed { XDP_DROP } else { XDP_PASS }
}

/// The same in the network stack, where a driver has no XDP or its program is another's.
#[classifier]
pub fn weir_decap_tc(context: TcContext) -> i32 {
    let skb = Skb(context.skb.skb);
    skb.pull();
    // SAFETY: the loader replaces the value before the kernel sees it.
    let port = unsafe { core::ptr::read_volatile(&raw const GUE_PORT) };
    let outcome = match inside(&skb, port) {
        Ok(inside) if ADDRESSES.get_ptr(&inside.destination).is_none() => Outcome::Foreign,
        Ok(inside) if skb.unwrap(inside.outer, inside.family) => taken_out(&inside),
        Ok(_) => Outcome::Malformed,
        Err(outcome) => outcome,
    };
    count(outcome);
    if outcome == Outcome::Malformed { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

#[inline(always)]
fn count(outcome: Outcome) {
    if let Some(counter) = OUTCOME_COUNTERS.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
        unsafe { *counter += 1 };
    }
}

#[inline(always)]
fn taken_out(inside: &Inside) -> Outcome {
    if inside.is_gue { Outcome::Gue } else { Outcome::Ipip }
}

#[inline(always)]
fn unwrap(frame: &Frame, inside: &Inside) -> Outcome {
    if ADDRESSES.get_ptr(&inside.destination).is_none() {
        return Outcome::Foreign;
    }
    match inside.network {
        14 => unwrap_behind::<14>(frame, inside),
        18 => unwrap_behind::<18>(frame, inside),
        _ => unwrap_behind::<22>(frame, inside),
    }
    .unwrap_or(Outcome::Malformed)
}

/// Takes the outer headers away; the Ethernet header and its tags, `NETWORK` bytes, stay.
#[inline(always)]
fn unwrap_behind<const NETWORK: usize>(frame: &Frame, inside: &Inside) -> Option<Outcome> {
    let header = frame.span::<24>(0)?;
    let (first, second, third) = (header.u64::<0>(), header.u64::<8>(), header.u64::<16>());
    if !frame.grow(-(inside.outer as i32)) {
        return None;
    }
    let ethertype = if inside.family == V4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let header = frame.span::<22>(0)?;
    header.put_u64::<0>(first);
    header.put_u32::<8>((second >> 32) as u32);
    match NETWORK {
        14 => header.put_u16::<12>(ethertype),
        18 => {
            header.put_u32::<12>(second as u32);
            header.put_u16::<16>(ethertype);
        }
        _ => {
            header.put_u32::<12>(second as u32);
            header.put_u32::<16>((third >> 32) as u32);
            header.put_u16::<20>(ethertype);
        }
    }
    Some(taken_out(inside))
}
