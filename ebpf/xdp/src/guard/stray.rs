//! Packets to a listener under attack that begin nothing: those of a connection go on, so does the cookie
//! that comes back, and nobody else.

use aya_ebpf::helpers::generated::{
    bpf_tcp_raw_check_syncookie_ipv4, bpf_tcp_raw_check_syncookie_ipv6,
};
use weir_abi::guard::Place;
use weir_abi::wire::V4;
use weir_abi::{Bytes, Drop, End, Flow, Packet};

use super::limit::Window;
use super::maps::{self, refuse};
use super::socket::{self, LISTEN};
use crate::frame::Frame;
use crate::vip::exported;
use crate::vip::way::Notes;

const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;
/// No socket at all.
const NONE: u32 = 0;
/// Resets and ends a second and CPU that may belong to nobody.
const RESETS_MAX: u32 = 100;

exported! {
    /// What becomes of it.
    weir_stray, Notes, stray
}

#[inline(always)]
fn stray(frame: &Frame, notes: &Notes) -> Result<End, End> {
    let (flow, transport) = (&notes.flow, notes.way.transport as usize);
    let flags = frame.span::<20>(transport).map_or(0, |header| header.u8::<13>());
    let state = state_of(frame, flow);
    if state != LISTEN && state != NONE {
        return Ok(End::GO_ON);
    }
    let (Some(counter), Some(guard)) = (maps::counter(notes.way.vip), maps::guard(notes.way.vip))
    else {
        return Ok(End::GO_ON);
    };
    if guard.place == Place::Both as u32 {
        // Only the cookie that comes back is known to be for here.
        return Ok(if flags & ACK != 0 && is_cookie(frame, notes) {
            counter.proven += 1;
            End::BEGIN
        } else {
            End::GO_ON
        });
    }
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
fn state_of(frame: &Frame, flow: &Flow) -> u32 {
    // SAFETY: it is there while this runs.
    socket::with(frame, flow, |socket| unsafe { (*socket).state }).unwrap_or(NONE)
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
