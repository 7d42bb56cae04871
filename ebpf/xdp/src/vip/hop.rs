//! The way to a backend, as the kernel's routes and neighbours have it. Each CPU asks now and then.

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Lookup, xdp_md};
use aya_ebpf::helpers::bpf_jiffies64;
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use weir_abi::Address;
use weir_abi::vip::{BackendEntry, Hop};
use weir_abi::wire::{ETHERNET_SIZE, V4};

use super::maps;
use crate::frame::{Frame, Span};

/// Jiffies between two questions: a quarter of a second to two and a half.
const ASK_INTERVAL: u64 = 256;
/// The same while there is no way.
const ASK_AGAIN: u64 = 4;
/// Interface `lo` of every network namespace: the way as this host itself would go.
const LOOPBACK: u32 = 1;
/// What a route is asked for must fit everywhere.
const LENGTH_ASKED: u16 = 68;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The way to a backend; `None` if there is none.
#[inline(always)]
pub fn to(frame: &Frame, number: u32, backend: &BackendEntry) -> Option<&'static Hop> {
    let hop = maps::hop(number)?;
    // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
    let hop = unsafe { &mut *hop };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_jiffies64() };
    let interval = if hop.interface == 0 { ASK_AGAIN } else { ASK_INTERVAL };
    if hop.stamp != backend.stamp || now.wrapping_sub(hop.asked) > interval {
        weir_ask(frame.0, number, now);
    }
    if hop.interface == 0 { None } else { Some(hop) }
}

/// Asks the kernel. Exported for the verifier's sake.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_ask(context: *mut xdp_md, number: u32, now: u64) -> u32 {
    let (Some(backend), Some(hop)) = (maps::backend(number), maps::hop(number)) else { return 0 };
    // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile.
    let hop = unsafe { &mut *hop };
    if hop.stamp != backend.stamp {
        hop.interface = 0;
        hop.stamp = backend.stamp;
    }
    hop.asked = now;
    // A neighbour that has not answered again lately is mostly still there.
    if let Some(found) = find(context, backend.address, backend.family) {
        hop.interface = found.interface;
        hop.mtu = found.mtu;
        hop.ethernet = found.ethernet;
    }
    0
}

/// A way that was found.
pub struct Found {
    pub interface: u32,
    pub mtu: u32,
    pub ethernet: [u32; 3],
}

/// The way to an address.
#[inline(always)]
pub fn find(context: *mut xdp_md, address: Address, family: u8) -> Option<Found> {
    // SAFETY: a struct of numbers, for which zero is a value.
    let mut lookup: Lookup = unsafe { core::mem::zeroed() };
    lookup.ifindex = LOOPBACK;
    lookup.__bindgen_anon_1.tot_len = LENGTH_ASKED;
    if family == V4 {
        lookup.family = AF_INET;
        lookup.__bindgen_anon_4.ipv4_dst = (address.low as u32).to_be();
    } else {
        lookup.family = AF_INET6;
        let words = [address.high >> 32, address.high, address.low >> 32, address.low];
        lookup.__bindgen_anon_4.ipv6_dst = words.map(|word| (word as u32).to_be());
    }
    let size = size_of::<Lookup>() as i32;
    // SAFETY: a helper that fills the struct, whose size it is told.
    let answer = unsafe { bpf_fib_lookup(context.cast(), &raw mut lookup, size, 0) };
    if answer as u32 != BPF_FIB_LKUP_RET_SUCCESS {
        return None;
    }
    let [d0, d1, d2, d3, d4, d5] = lookup.dmac;
    let [s0, s1, s2, s3, s4, s5] = lookup.smac;
    Some(Found {
        interface: lookup.ifindex,
        // SAFETY: all of a union of two numbers of the same size.
        mtu: u32::from(unsafe { lookup.__bindgen_anon_1.mtu_result }),
        ethernet: [[d0, d1, d2, d3], [d4, d5, s0, s1], [s2, s3, s4, s5]].map(u32::from_ne_bytes),
    })
}

/// Writes the addresses of an Ethernet header.
#[inline(always)]
pub fn address<const N: usize>(header: Span<N>, ethernet: [u32; 3]) {
    header.put_u32::<0>(u32::from_be(ethernet[0]));
    header.put_u32::<4>(u32::from_be(ethernet[1]));
    header.put_u32::<8>(u32::from_be(ethernet[2]));
}

/// Where a packet goes out: 0 is by the interface that it came in by. One with a VLAN tag does, since
/// its tag means something only there.
#[inline(always)]
pub fn egress(frame: &Frame, network: u32, interface: u32) -> u32 {
    if network as usize > ETHERNET_SIZE || interface == frame.interface() { 0 } else { interface }
}
