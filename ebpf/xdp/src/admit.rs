//! Which sources may send at all: the bans, and the allow list above them.

use weir_abi::ban::{self, Cell, Front, Kind, State};
use weir_abi::{Address, Drop, Network, Packet, Pass, Verdict};

use crate::tables::Gate;
use crate::{event, hit};

/// Ends the way of a packet whose source is banned; else tells as what it goes on.
#[inline(always)]
pub fn source(packet: &impl Packet, network: Network) -> Result<Pass, Verdict> {
    match network {
        Network::V4(at) => match packet.read_u32(at + 12) {
            Some(address) => v4(address, packet, network),
            None => Ok(Pass::Clean),
        },
        Network::V6(at) => {
            let Some(high) = packet.read_u64(at + 8) else { return Ok(Pass::Clean) };
            let Some(low) = packet.read_u64(at + 16) else { return Ok(Pass::Clean) };
            v6(Address { high, low }, packet, network)
        }
    }
}

/// The same for an address of IPv4 that was read.
#[inline(always)]
pub fn v4(address: u32, packet: &impl Packet, network: Network) -> Result<Pass, Verdict> {
    let Some(gate) = Gate::open() else { return Ok(Pass::Clean) };
    let cell = ban::find_v4(&gate, address);
    if cell == Cell::CLEAN { Ok(Pass::Clean) } else { judge(&gate, cell, packet, network) }
}

/// The same for one of IPv6.
#[inline(always)]
fn v6(address: Address, packet: &impl Packet, network: Network) -> Result<Pass, Verdict> {
    let Some(gate) = Gate::open() else { return Ok(Pass::Clean) };
    let cell = ban::find(&gate, address);
    if cell == Cell::CLEAN { Ok(Pass::Clean) } else { judge(&gate, cell, packet, network) }
}

/// What becomes of a packet that a ban touches.
#[inline(always)]
fn judge(gate: &Gate, cell: Cell, packet: &impl Packet, network: Network) -> Result<Pass, Verdict> {
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
        event::tell(state, record, packet, network, verdict);
    }
    if is_tried { Ok(Pass::WouldDrop) } else { Err(verdict) }
}

#[inline(always)]
fn is_dry_run(state: *const State) -> bool {
    // SAFETY: the value of an array map, never freed while the program runs.
    unsafe { core::ptr::read_volatile(&raw const (*state).dry_run) != 0 }
}
