//! Layer 4: packets for VIPs. Which VIP, which backend, and how it gets there.

mod choose;
mod forward;
mod fragment;
mod hop;
mod icmp;
mod ip;
mod l2;
mod maps;
mod nat;
mod reply;
mod tunnel;
pub(crate) mod way;

use aya_ebpf::bindings::xdp_md;
use weir_abi::vip::{EntryKind, find, find_own};
use weir_abi::wire::{PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP};
use weir_abi::{Drop, End, Flow, Shape};

use crate::frame::Frame;
use crate::guard;
pub(crate) use forward::exported;
pub(crate) use maps::tick;
use way::Notes;

/// Notes down a packet that may be for a VIP, or from a backend behind one; others end as `pass` says.
#[inline(always)]
pub fn note(flow: &Flow, pass: End) -> End {
    let (Some(state), Some(notes)) = (maps::state(), maps::notes()) else { return pass };
    let is_ours = guard::looks_at_all()
        || maps::may_know(state, flow.destination)
        || ((maps::has_nat(state) || is_encapsulated(flow)) && maps::may_know(state, flow.source));
    if !is_ours {
        return pass;
    }
    // Field by field: the compiler would copy it whole by a loop over its bytes.
    let Flow { source, destination, source_port, destination_port, .. } = *flow;
    notes.flow.source = source;
    notes.flow.destination = destination;
    notes.flow.source_port = source_port;
    notes.flow.destination_port = destination_port;
    notes.flow.network = flow.network;
    notes.flow.transport = flow.transport;
    notes.flow.fragment = flow.fragment;
    notes.flow.protocol = flow.protocol;
    notes.flow.family = flow.family;
    notes.flow.shape = flow.shape;
    notes.pass = pass.0;
    End::SERVE
}

/// Takes the packet of this CPU's notes to its backend, if it is for a VIP. One call follows the
/// other, so that the stack of one is free for the next.
#[inline(always)]
pub fn serve(frame: &Frame) -> End {
    let Some(notes) = maps::notes() else { return End::GO_ON };
    let (Ok(end) | Err(end)) = stages(frame, notes);
    if end == End::GO_ON { End(notes.pass) } else { end }
}

#[inline(always)]
fn stages(frame: &Frame, notes: &mut Notes) -> Result<End, End> {
    if guard::looks_at_all() {
        match End(guard::weir_source(frame.0, notes)) {
            End::GO_ON => {}
            end => return Err(end),
        }
    }
    let end = match notes.flow.shape {
        Shape::LaterFragment => End(fragment::weir_follow(frame.0, notes)),
        Shape::Other => End(icmp::weir_icmp(frame.0, notes)),
        Shape::Unparsed => return Ok(End::GO_ON),
        Shape::Ports | Shape::FirstFragment => End(weir_choose(frame.0, notes)),
    };
    if end == End::FORWARD { forward::send(frame, notes) } else { Ok(end) }
}

/// Which VIP, and which of its backends. Exported, so that the verifier looks at it once, not once for
/// every way on which a packet comes here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_choose(context: *mut xdp_md, notes: *mut Notes) -> u64 {
    if notes.is_null() {
        return End::GO_ON.0;
    }
    // SAFETY: not null, and the verifier checks that the caller hands over whole ones.
    let (Ok(end) | Err(end)) = choose(&Frame(context), unsafe { &mut *notes });
    end.0
}

#[inline(always)]
fn choose(frame: &Frame, notes: &mut Notes) -> Result<End, End> {
    let Notes { flow, way, .. } = notes;
    if is_loop(flow) {
        return Err(End::dropped(Drop::Loop));
    }
    let found = find(&maps::Directory, flow.destination, flow.destination_port, flow.protocol);
    let Some(entry) = found else { return Ok(nat::note_return(flow, way)) };
    // SAFETY: the value of an array map, freed only after this run.
    let entry = unsafe { &*entry };
    let is_vip = entry.key >> 24 == EntryKind::Vip as u32;
    if !is_vip && entry.key >> 24 != EntryKind::Listener as u32 {
        return Ok(End::GO_ON);
    }
    if is_vip && flow.source == flow.destination {
        return Err(End::dropped(Drop::Spoofed));
    }
    way.begin(frame, flow, entry);
    guard::destination(frame, notes)?;
    if !is_vip {
        return Ok(End::GO_ON);
    }
    let Notes { flow, way, .. } = notes;
    choose::backend(frame, flow, way)?;
    if flow.shape == Shape::FirstFragment {
        fragment::weir_remember(notes);
    }
    Ok(End::FORWARD)
}

/// Whether it is what we have sent to a backend.
#[inline(always)]
fn is_loop(flow: &Flow) -> bool {
    is_encapsulated(flow) && find_own(&maps::Directory, flow.source).is_some()
}

/// Whether it looks like what we send to backends.
#[inline(always)]
fn is_encapsulated(flow: &Flow) -> bool {
    match flow.protocol {
        PROTOCOL_IPIP | PROTOCOL_IPV6 => true,
        PROTOCOL_UDP => flow.destination_port == maps::gue_port(),
        _ => false,
    }
}
