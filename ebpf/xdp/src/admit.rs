//! Which sources may send at all: the bans, and the allow list above them.

use weir_abi::ban::{self, Cell, Front, Kind, State};
use weir_abi::wire::V4;
use weir_abi::{Address, Drop, Flow, Packet, Pass, Verdict};

use crate::tables::Gate;
use crate::{event, hit};

/// Ends the way of a packet whose source is banned; else tells as what it goes on.
#[inline(always)]
pub fn source(packet: &impl Packet, flow: &Flow) -> Result<Pass, Verdict> {
    if flow.family == V4 {
        v4(flow.source.low as u32, packet, flow.source)
    } else {
        v6(flow.source, packet)
    }
}

/// The same for an address of IPv4 that was read.
#[inline(always)]
pub fn v4(address: u32, packet: &impl Packet, source: Address) -> Result<Pass, Verdict> {
    let Some(gate) = Gate::open() else { return Ok(Pass::Clean) };
    let cell = ban::find_v4(&gate, address);
    if cell == Cell::CLEAN { Ok(Pass::Clean) } else { judge(&gate, cell, packet, source) }
}

/// The same for one of IPv6.
#[inline(always)]
fn v6(address: Address, packet: &impl Packet) -> Result<Pass, Verdict> {
    let Some(gate) = Gate::open() else { return Ok(Pass::Clean) };
    let cell = ban::find(&gate, address);
    if cell == Cell::CLEAN { Ok(Pass::Clean) } else { judge(&gate, cell, packet, address) }
}

/// What becomes of a packet that a ban touches.
#[inline(always)]
fn judge(gate: &Gate, cell: Cell, packet: &impl Packet, source: Address) -> Result<Pass, Verdict> {
    let state = gate.state();
    let (record, is_tried) = match cell.kind() {
        Kind::Ban(record) => (record, is_dry_run(state)),
        Kind::DryRun(record) => (record, true),
        Kind::Allowed(_) => return Ok(Pass::Allowed),
        _ => return Ok(Pass::Clean),
    };
    let verdict =
        if is_tried { Verdict::Pass(Pass::WouldDrop) } else { Verdict::Drop(Drop::Banned) };
    // A packet that is on its way while tables change places may be counted for another's prefix.
    let tables = gate.tables();
    hit::count(state, &tables, record, packet.length());
    if event::is_watched(state)
        && let Some(record) = tables.record(record)
    {
        event::tell(state, record, packet, source, verdict);
    }
    if is_tried { Ok(Pass::WouldDrop) } else { Err(verdict) }
}

#[inline(always)]
fn is_dry_run(state: *const State) -> bool {
    // SAFETY: the value of an array map, never freed while the program runs.
    unsafe { core::ptr::read_volatile(&raw const (*state).dry_run) != 0 }
}
