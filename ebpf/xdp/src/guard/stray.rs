//! Packets to a listener under attack that begin nothing: those of a connection go on, so does the cookie
//! that comes back, and nobody else.

use aya_ebpf::bindings::bpf_sock_tuple;
use aya_ebpf::helpers::generated::{
    bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_raw_check_syncookie_ipv4,
    bpf_tcp_raw_check_syncookie_ipv6,
};
use weir_abi::wire::V4;
use weir_abi::{Bytes, Drop, End, Flow, Packet};

use super::limit::Window;
use super::maps::{self, refuse};
use crate::frame::Frame;
use crate::vip::exported;
use crate::vip::way::Notes;

const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;
/// A state of sockets, as the kernel numbers them.
const LISTEN: u32 = 10;
/// No socket at all.
const NONE: u32 = 0;
/// The network namespace that the packet is in.
const OURS: u64 = u64::MAX;
/// Resets and ends a second and CPU that may belong to nobody.
const RESETS_MAX: u32 = 100;
const TUPLE4_SIZE: u32 = 12;
const TUPLE6_SIZE: u32 = 36;

exported! {
    /// What becomes of it.
    weir_stray, Notes, stray
}

#[inline(always)]
fn stray(frame: &Frame, notes: &Notes) -> Result<End, End> {
    let (flow, transport) = (&notes.flow, notes.way.transport as usize);
    let flags = frame.span::<20>(transport).map_or(0, |header| header.u8::<13>());
    let state = socket(frame, flow);
    if state != LISTEN && state != NONE {
        return Ok(End::GO_ON);
    }
    let Some(counter) = maps::counter(notes.way.vip) else { return Ok(End::GO_ON) };
    if flags & RST != 0 || flags & (FIN | ACK) == FIN {
        if Window(&mut counter.resets).is_over(RESETS_MAX) {
            refuse(flow.source, Drop::StrayReset, false)?;
        }
        return Ok(End::GO_ON);
    }
    if flags & ACK != 0 && is_cookie(frame, notes) {
        counter.proven += 1;
        return Ok(End::GO_ON);
    }
    refuse(flow.source, Drop::BadAck, false)?;
    Ok(End::GO_ON)
}

/// The state of the socket that a packet is for.
#[inline(always)]
fn socket(frame: &Frame, flow: &Flow) -> u32 {
    // SAFETY: numbers, for which zero is a value.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = if flow.family == V4 {
        tuple.__bindgen_anon_1.ipv4.saddr = (flow.source.low as u32).to_be();
        tuple.__bindgen_anon_1.ipv4.daddr = (flow.destination.low as u32).to_be();
        tuple.__bindgen_anon_1.ipv4.sport = flow.source_port.to_be();
        tuple.__bindgen_anon_1.ipv4.dport = flow.destination_port.to_be();
        TUPLE4_SIZE
    } else {
        let words = |high: u64, low: u64| {
            [high >> 32, high, low >> 32, low].map(|word| (word as u32).to_be())
        };
        tuple.__bindgen_anon_1.ipv6.saddr = words(flow.source.high, flow.source.low);
        tuple.__bindgen_anon_1.ipv6.daddr = words(flow.destination.high, flow.destination.low);
        tuple.__bindgen_anon_1.ipv6.sport = flow.source_port.to_be();
        tuple.__bindgen_anon_1.ipv6.dport = flow.destination_port.to_be();
        TUPLE6_SIZE
    };
    // SAFETY: a helper that reads `size` bytes; what it finds is given back at once.
    unsafe {
        let socket = if size == TUPLE4_SIZE {
            bpf_skc_lookup_tcp(frame.0.cast(), &raw mut tuple, TUPLE4_SIZE, OURS, 0)
        } else {
            bpf_skc_lookup_tcp(frame.0.cast(), &raw mut tuple, TUPLE6_SIZE, OURS, 0)
        };
        if socket.is_null() {
            return NONE;
        }
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state
    }
}

/// Whether it brings back a cookie of this kernel.
#[inline(always)]
fn is_cookie(frame: &Frame, notes: &Notes) -> bool {
    let (network, transport) = (notes.way.network as usize, notes.way.transport as usize);
    let Some(tcp) = frame.span::<20>(transport) else { return false };
    let answer = if notes.flow.family == V4 {
        let Some(ip) = frame.span::<20>(network) else { return false };
        // SAFETY: a helper that reads 20 bytes of each, which are there.
        unsafe { bpf_tcp_raw_check_syncookie_ipv4(ip.pointer(), tcp.pointer()) }
    } else {
        let Some(ip) = frame.span::<40>(network) else { return false };
        // SAFETY: as above, 40 bytes.
        unsafe { bpf_tcp_raw_check_syncookie_ipv6(ip.pointer(), tcp.pointer()) }
    };
    answer == 0
}
