//! The flood guard: what becomes of packets that are too many, and of SYNs under attack.

mod answer;
mod challenge;
mod cookie;
mod limit;
mod maps;
mod socket;
mod stray;
mod tcp;

use weir_abi::guard::{Mode, Place, Switch, TOTAL, is_reflected, is_sane};
use weir_abi::wire::{PROTOCOL_TCP, PROTOCOL_UDP};
use weir_abi::{Bytes, Drop, End, Flow, Packet, Shape};

use crate::frame::Frame;
use crate::vip::exported;
use crate::vip::way::Notes;
use limit::Window;
use maps::refuse;

/// Whether packets are looked at whatever they are for.
#[inline(always)]
pub fn looks_at_all() -> bool {
    const ALL: u32 =
        Switch::Packets as u32 | Switch::TcpFlags as u32 | Switch::Fragments as u32;
    maps::switches() & ALL != 0
}

exported! {
    /// What there is to say of any packet: its source, its flags, whether it is a fragment.
    weir_source, Notes, source
}

#[inline(always)]
fn source(frame: &Frame, notes: &Notes) -> Result<End, End> {
    let (flow, switches) = (&notes.flow, maps::switches());
    let has = |switch: Switch| switches & switch as u32 != 0;
    let has_ports = matches!(flow.shape, Shape::Ports | Shape::FirstFragment);
    if has(Switch::TcpFlags) && flow.protocol == PROTOCOL_TCP && has_ports {
        let header = frame.span::<14>(flow.transport.into());
        if header.is_some_and(|header| !is_sane(header.u8::<13>())) {
            refuse(flow.source, Drop::TcpFlags, has(Switch::TryTcpFlags))?;
        }
    }
    if has(Switch::Fragments) && matches!(flow.shape, Shape::FirstFragment | Shape::LaterFragment) {
        let limit = maps::state().map_or(0, |state| state.fragments);
        let counter = maps::counter(TOTAL);
        if counter.is_some_and(|it| Window(&mut it.fragments).is_over(limit)) {
            refuse(flow.source, Drop::FragmentFlood, has(Switch::TryFragments))?;
        }
    }
    if has(Switch::Packets) && limit::is_over_packets(notes) {
        refuse(flow.source, Drop::SourceLimit, false)?;
    }
    Ok(End::GO_ON)
}

/// What there is to say of a packet for a VIP or listener.
#[inline(always)]
pub fn destination(frame: &Frame, notes: &mut Notes) -> Result<(), End> {
    let Notes { flow, way, .. } = notes;
    if flow.protocol == PROTOCOL_UDP {
        return datagram(flow);
    }
    let mode = maps::guard(way.vip).map_or(0, |guard| guard.mode);
    if mode == Mode::Off as u32 || !(way.is_new || mode == Mode::Attack as u32) {
        return Ok(());
    }
    match End(weir_guard(frame.0, notes)) {
        End::GO_ON => Ok(()),
        End::BEGIN => {
            notes.way.is_new = true;
            Ok(())
        }
        end => Err(end),
    }
}

#[inline(always)]
fn datagram(flow: &Flow) -> Result<(), End> {
    if maps::is_on(Switch::Reflection) && is_reflected(flow.source_port) {
        return refuse(flow.source, Drop::UdpReflection, maps::is_on(Switch::TryReflection));
    }
    Ok(())
}

exported! {
    /// What becomes of a TCP packet for a VIP or listener that is guarded.
    weir_guard, Notes, guard
}

#[inline(always)]
fn guard(frame: &Frame, notes: &Notes) -> Result<End, End> {
    let way = &notes.way;
    let (Some(guard), Some(counter)) = (maps::guard(way.vip), maps::counter(way.vip)) else {
        return Ok(End::GO_ON);
    };
    if way.is_new {
        counter.syns += 1;
        if let Some(total) = maps::counter(TOTAL) {
            total.syns += 1;
        }
    }
    if guard.mode < Mode::Watch as u32 {
        if maps::is_on(Switch::Learn) {
            limit::is_over_syns(notes);
        }
        return Ok(End::GO_ON);
    }
    if maps::is_allowed(notes.flow.source) {
        return Ok(End::GO_ON);
    }
    let (is_elsewhere, is_attack) =
        (guard.place == Place::Elsewhere as u32, guard.mode == Mode::Attack as u32);
    let end = match way.is_new {
        true => syn(frame, notes, guard.cap, !is_elsewhere, is_attack),
        false if is_elsewhere => challenge::proof(frame, notes),
        false => End(stray::weir_stray(frame.0, notes)),
    };
    match end.kind() {
        _ if end == End::GO_ON || end == End::BEGIN => {}
        End::DROP if end != End::dropped(Drop::Proof) => counter.dropped += 1,
        End::REPLY => counter.answered += 1,
        _ => {}
    }
    Ok(end)
}

#[inline(always)]
fn syn(frame: &Frame, notes: &Notes, cap: u32, is_local: bool, is_attack: bool) -> End {
    if limit::is_over_syns(notes)
        && let Err(end) = refuse(notes.flow.source, Drop::SynLimit, false)
    {
        return end;
    }
    if is_attack && is_local {
        return End(cookie::weir_cookie(frame.0, notes));
    }
    if is_attack && !challenge::is_proven(&notes.flow) {
        return End(challenge::weir_challenge(frame.0, notes));
    }
    let counter = maps::counter(notes.way.vip);
    if cap != 0
        && counter.is_some_and(|it| Window(&mut it.window).is_over(cap))
        && let Err(end) = refuse(notes.flow.source, Drop::VipLimit, false)
    {
        return end;
    }
    End::GO_ON
}

