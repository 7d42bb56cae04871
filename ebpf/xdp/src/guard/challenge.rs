//! Under attack on a VIP that is forwarded, a source proves that it is there: its SYN is answered by a bare
//! ACK of a number that only who gets it can know, and an honest stack resets what it did not ask for by
//! just that number (RFC 9293, 3.10.7.3). Then its SYN comes again, and goes on.

use weir_abi::guard::{Switch, answers, challenge};
use weir_abi::wire::{IPV4_SIZE_MIN, IPV6_SIZE, V4};
use weir_abi::{Bytes, Drop, End, Flow, Packet, Reply, Verdict};

use super::answer::turned;
use super::maps;
use crate::frame::Frame;
use crate::vip::way::Notes;
use crate::vip::{exported, tick};

const RST: u8 = 4;
const SYN: u8 = 2;
const ACK: u32 = 0x10;
const TCP_SIZE: u32 = 20;

/// Whether the source has proven to be there lately.
#[inline(always)]
pub fn is_proven(flow: &Flow) -> bool {
    let (Some(state), Some(since)) = (maps::state(), maps::proven(flow.source)) else {
        return false;
    };
    tick().wrapping_sub(since) <= state.proven_for
}

/// Takes a reset that answers a challenge; every other packet is none of ours.
#[inline(always)]
pub fn proof(frame: &Frame, notes: &Notes) -> End {
    let header = frame.span::<20>(notes.way.transport as usize);
    match header {
        Some(header) if header.u8::<13>() & (RST | SYN) == RST => {
            End(weir_proof(frame.0, notes))
        }
        _ => End::GO_ON,
    }
}

exported! {
    /// Takes it if it is one.
    weir_proof, Notes, proven
}

#[inline(always)]
fn proven(frame: &Frame, notes: &Notes) -> Result<End, End> {
    let Some(state) = maps::state() else { return Ok(End::GO_ON) };
    let header = frame.span::<20>(notes.way.transport as usize).ok_or(End::GO_ON)?;
    if !answers(&notes.flow, header.u32::<4>(), &state.keys, state.step) {
        return Ok(End::GO_ON);
    }
    maps::prove(notes.flow.source, tick());
    if let Some(counter) = maps::counter(notes.way.vip) {
        counter.proven += 1;
    }
    Err(End::dropped(Drop::Proof))
}

exported! {
    /// Asks the source of a SYN to prove that it is there.
    weir_challenge, Notes, ask
}

#[inline(always)]
fn ask(frame: &Frame, notes: &Notes) -> Result<End, End> {
    const ODD: End = End::dropped(Drop::OddSyn);
    if maps::is_on(Switch::TryAll) {
        maps::count_tried(Verdict::Reply(Reply::Challenge));
        return Ok(End::GO_ON);
    }
    let (flow, way) = (&notes.flow, &notes.way);
    let state = maps::state().ok_or(ODD)?;
    let is_v4 = flow.family == V4;
    let ip_size = if is_v4 { IPV4_SIZE_MIN } else { IPV6_SIZE } as u32;
    if way.transport != way.network + ip_size {
        return Err(ODD);
    }
    let number = challenge(flow, state.keys[0], state.step);
    let written = match way.network {
        14 => write::<14>(frame, number, is_v4),
        18 => write::<18>(frame, number, is_v4),
        _ => write::<22>(frame, number, is_v4),
    };
    if written.is_some() { Ok(End::of(Verdict::Reply(Reply::Challenge))) } else { Err(ODD) }
}

#[inline(always)]
fn write<const NETWORK: usize>(frame: &Frame, number: u32, is_v4: bool) -> Option<()> {
    let (at, sum) = turned::<NETWORK>(frame, is_v4, TCP_SIZE)?;
    let tcp = frame.span::<20>(at)?;
    let ports = tcp.u32::<0>().rotate_left(16);
    let flags = TCP_SIZE << 26 | ACK << 16;
    let sum = sum.add(ports).add(number).add(flags);
    tcp.put_u32::<0>(ports);
    tcp.put_u32::<4>(0);
    tcp.put_u32::<8>(number);
    tcp.put_u32::<12>(flags);
    tcp.put_u32::<16>(u32::from(sum.checksum()) << 16);
    Some(())
}
