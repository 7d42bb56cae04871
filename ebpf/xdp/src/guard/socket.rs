//! The socket of this host that a TCP packet is for.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp};
use weir_abi::Flow;
use weir_abi::wire::V4;

use crate::frame::Frame;

/// A state of sockets, as the kernel numbers them.
pub const LISTEN: u32 = 10;
/// The network namespace that the packet is in.
const OURS: u64 = u64::MAX;
const TUPLE4_SIZE: u32 = 12;
const TUPLE6_SIZE: u32 = 36;

/// Looks at it, if there is one; it is given back at once.
#[inline(always)]
pub fn with<T>(frame: &Frame, flow: &Flow, look: impl FnOnce(*mut bpf_sock) -> T) -> Option<T> {
    // SAFETY: numbers, for which zero is a value.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let is_v4 = flow.family == V4;
    if is_v4 {
        tuple.__bindgen_anon_1.ipv4.saddr = (flow.source.low as u32).to_be();
        tuple.__bindgen_anon_1.ipv4.daddr = (flow.destination.low as u32).to_be();
        tuple.__bindgen_anon_1.ipv4.sport = flow.source_port.to_be();
        tuple.__bindgen_anon_1.ipv4.dport = flow.destination_port.to_be();
    } else {
        let words = |high: u64, low: u64| {
            [high >> 32, high, low >> 32, low].map(|word| (word as u32).to_be())
        };
        tuple.__bindgen_anon_1.ipv6.saddr = words(flow.source.high, flow.source.low);
        tuple.__bindgen_anon_1.ipv6.daddr = words(flow.destination.high, flow.destination.low);
        tuple.__bindgen_anon_1.ipv6.sport = flow.source_port.to_be();
        tuple.__bindgen_anon_1.ipv6.dport = flow.destination_port.to_be();
    }
    // SAFETY: a helper that reads as many bytes as it is told, which are there.
    let socket = unsafe {
        if is_v4 {
            bpf_skc_lookup_tcp(frame.0.cast(), &raw mut tuple, TUPLE4_SIZE, OURS, 0)
        } else {
            bpf_skc_lookup_tcp(frame.0.cast(), &raw mut tuple, TUPLE6_SIZE, OURS, 0)
        }
    };
    if socket.is_null() {
        return None;
    }
    let seen = look(socket);
    // SAFETY: it was found above, and is given back once.
    unsafe { bpf_sk_release(socket.cast()) };
    Some(seen)
}
