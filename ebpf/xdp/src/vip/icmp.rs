//! ICMP to a VIP: pings are answered, errors follow the flow of the packet that they quote.

use aya_ebpf::bindings::xdp_md;
use weir_abi::vip::{EntryKind, find, find_address};
use weir_abi::wire::{IPV6_SIZE, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP, V4};
use weir_abi::{Address, Bytes, Drop, End, Flow, Packet, Shape};

use super::way::{Notes, Way};
use super::{choose, is_loop, maps, reply};
use crate::frame::Frame;

const ICMP_SIZE: usize = 8;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST6: u8 = 128;
/// Unreachable, time exceeded, a wrong parameter.
const ERRORS: [u8; 3] = [3, 11, 12];
/// Unreachable, too big, time exceeded, a wrong parameter.
const ERRORS6: [u8; 4] = [1, 2, 3, 4];

/// A packet that is neither TCP nor UDP. Exported for the verifier's sake.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_icmp(context: *mut xdp_md, notes: *mut Notes) -> u64 {
    if notes.is_null() {
        return End::GO_ON.0;
    }
    // SAFETY: not null, and the verifier checks that the caller hands over whole ones.
    let (Ok(end) | Err(end)) = icmp(&Frame(context), unsafe { &mut *notes });
    end.0
}

#[inline(always)]
fn icmp(frame: &Frame, notes: &mut Notes) -> Result<End, End> {
    let Notes { flow, way, .. } = notes;
    if is_loop(flow) {
        return Err(End::dropped(Drop::Loop));
    }
    let is_icmp = flow.protocol == if flow.family == V4 { PROTOCOL_ICMP } else { PROTOCOL_ICMP6 };
    if !is_icmp || flow.fragment != 0 {
        return Ok(End::GO_ON);
    }
    if find_address(&maps::Directory, flow.destination).is_none() {
        return Ok(End::GO_ON);
    }
    let malformed = End::dropped(Drop::Malformed);
    let at = usize::from(flow.transport);
    let kind = frame.span::<8>(at).ok_or(malformed)?.u8::<0>();
    let (request, is_error) = if flow.family == V4 {
        (ECHO_REQUEST, ERRORS.contains(&kind))
    } else {
        (ECHO_REQUEST6, ERRORS6.contains(&kind))
    };
    if kind == request {
        return reply::pong(frame, flow.network.into(), at, flow.family).ok_or(malformed);
    }
    if !is_error {
        return Ok(End::GO_ON);
    }
    let quoted = quoted(frame, at + ICMP_SIZE, flow.family).ok_or(malformed)?;
    follow(frame, flow, &quoted, way)
}

/// The flow that the quoted packet answers: its receiver is the client.
#[inline(always)]
fn quoted(frame: &Frame, at: usize, family: u8) -> Option<Flow> {
    let (client, vip, protocol, ports) = if family == V4 {
        let header = frame.span::<20>(at)?;
        let size = usize::from(header.u8::<0>() & 0x0f) * 4;
        let (vip, client) = (header.u32::<12>(), header.u32::<16>());
        (
            Address::v4(client),
            Address::v4(vip),
            header.u8::<9>(),
            frame.span::<4>(at + size)?.u32::<0>(),
        )
    } else {
        let header = frame.span::<40>(at)?;
        let vip = Address { high: header.u64::<8>(), low: header.u64::<16>() };
        let client = Address { high: header.u64::<24>(), low: header.u64::<32>() };
        (client, vip, header.u8::<6>(), frame.span::<4>(at + IPV6_SIZE)?.u32::<0>())
    };
    Some(Flow {
        source: client,
        destination: vip,
        source_port: ports as u16,
        destination_port: (ports >> 16) as u16,
        network: 0,
        transport: 0,
        fragment: 0,
        protocol,
        family,
        shape: Shape::Other,
        unused: 0,
    })
}

/// To the backend that the quoted packet came from.
#[inline(always)]
fn follow(frame: &Frame, flow: &Flow, quoted: &Flow, way: &mut Way) -> Result<End, End> {
    if quoted.destination != flow.destination {
        return Err(End::dropped(Drop::IcmpMismatch));
    }
    if quoted.protocol != PROTOCOL_TCP && quoted.protocol != PROTOCOL_UDP {
        return Ok(End::GO_ON);
    }
    let found =
        find(&maps::Directory, quoted.destination, quoted.destination_port, quoted.protocol);
    let Some(entry) = found else { return Err(End::dropped(Drop::IcmpMismatch)) };
    // SAFETY: the value of an array map, freed only after this run.
    let entry = unsafe { &*entry };
    if entry.key >> 24 != EntryKind::Vip as u32 {
        return Ok(End::GO_ON);
    }
    way.begin(frame, quoted, entry);
    choose::backend_of(quoted, way);
    way.network = flow.network.into();
    way.transport = flow.transport.into();
    way.protocol = flow.protocol;
    way.is_new = false;
    Ok(End::FORWARD)
}
