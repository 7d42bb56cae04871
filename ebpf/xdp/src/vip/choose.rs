//! Which backend: its slot says so and, while the slot is moving, the flows that are remembered.

use core::ptr::{read_volatile, write_volatile};
use weir_abi::vip::{
    CLOSED, Drops, FlowKey, FlowValue, HashBy, LOCAL, MOVING, NOWHERE, ServerKey, server_id,
    slot_of,
};
use weir_abi::wire::UDP_SIZE;
use weir_abi::{Drop, End, Flow};

use super::maps;
use super::way::Way;
use crate::frame::Frame;

/// A word of four slots has a number four times.
const EACH: u64 = 0x0001_0001_0001_0001;

/// Chooses the backend of a packet for a VIP.
#[inline(always)]
pub fn backend(frame: &Frame, flow: &Flow, way: &mut Way) -> Result<(), End> {
    if way.how >> 8 & 0xff == HashBy::QuicCid as u32
        && let Some(id) = server_id(frame, usize::from(flow.transport) + UDP_SIZE)
        && let Some(backend) = maps::server(&ServerKey { table: way.table, id: id.into() })
    {
        way.backend = backend;
        return Ok(());
    }
    by_slot(flow, way, if way.is_new { New } else { Known });
    if way.backend == u32::from(NOWHERE) {
        way.count_drop(Drops::NoBackend);
        return Err(End::dropped(Drop::NoBackend));
    }
    Ok(())
}

/// The same for a packet that only speaks of a flow: nothing is remembered for it.
#[inline(always)]
pub fn backend_of(flow: &Flow, way: &mut Way) {
    by_slot(flow, way, Peek);
}

#[inline(always)]
fn by_slot(flow: &Flow, way: &mut Way, tells: Tells) {
    let slot = slot_of(way.hash);
    let slots = maps::slots(way.table, slot >> 2).unwrap_or(u64::from(NOWHERE) * EACH);
    let now = (slots >> ((slot & 3) * 16)) as u16;
    way.is_moving = now & MOVING != 0;
    way.backend = if way.is_moving {
        weir_moving(flow, way.table, now.into(), slot, tells as u32)
    } else {
        now.into()
    };
}

/// What a packet tells of its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Tells {
    /// It goes on.
    Known,
    /// It begins.
    New,
    /// Nothing: it is not of the flow.
    Peek,
}
use Tells::{Known, New, Peek};

/// The backend of a flow in a slot that is moving. Exported for the verifier's sake.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_moving(
    flow: *const Flow,
    table: u32,
    now: u32,
    slot: u32,
    tells: u32,
) -> u32 {
    let now = now & u32::from(!MOVING);
    if flow.is_null() {
        return now;
    }
    // SAFETY: not null, and the verifier checks that the caller hands over a whole one.
    let key = &FlowKey::of(unsafe { &*flow });
    let Some(moving) = maps::moving(table, slot) else { return now };
    // SAFETY: the value of an array map, freed only after this run.
    let (before, since) = unsafe {
        (read_volatile(&raw const (*moving).before), read_volatile(&raw const (*moving).since))
    };
    let (before, is_closed) = (before & !CLOSED, before & CLOSED != 0);
    if before == u32::from(NOWHERE) {
        return now;
    }
    let tick = maps::tick();
    let remembers = tells != Peek as u32;
    let known = if tells == New as u32 { None } else { remembered(key, since, tick, remembers) };
    let chosen = match known {
        Some(known) => known,
        None if tells == New as u32 || is_closed => now,
        None => before,
    };
    if remembers && known.is_none() {
        let stamp = maps::backend(chosen).map_or(0, |entry| entry.stamp) as u16;
        maps::remember(key, &FlowValue { backend: chosen as u16, stamp, seen: tick });
    }
    if remembers && chosen != now {
        // SAFETY: as above; whoever writes last writes the same.
        unsafe { write_volatile(&raw mut (*moving).seen, tick) };
    }
    chosen
}

/// The backend that is remembered since the slot moves, if it lives.
#[inline(always)]
fn remembered(key: &FlowKey, since: u32, tick: u32, remembers: bool) -> Option<u32> {
    let value = maps::flow(key)?;
    // SAFETY: the entry is freed only after this run; if another flow gets it meanwhile, one packet
    // goes astray.
    let value = unsafe { &mut *value };
    if (value.seen.wrapping_sub(since) as i32) < 0 {
        return None;
    }
    let backend = u32::from(value.backend);
    if !is_alive(backend, value.stamp) {
        return None;
    }
    if remembers {
        value.seen = tick;
    }
    Some(backend)
}

#[inline(always)]
fn is_alive(backend: u32, stamp: u16) -> bool {
    let Some(entry) = maps::backend(backend) else { return false };
    backend == u32::from(LOCAL) || (entry.is_alive() && entry.stamp as u16 == stamp)
}
