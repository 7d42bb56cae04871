//! Packets to backends with another destination, and their answers with the VIP as source.

use weir_abi::checksum::Sum;
use weir_abi::vip::{BackendEntry, EntryKind, FlowKey, KEEP_PORT, NatValue, RETURN, find};
use weir_abi::wire::{PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP, V4};
use weir_abi::{Address, Bytes, Drop, End, Flow, Packet, Send, Shape};

use super::forward::{MALFORMED, Target, age, exported, target};
use super::way::{Notes, Way};
use super::{fragment, hop, ip, maps};
use crate::frame::Frame;

const ICMP_SIZE: usize = 8;

/// Which side of a packet changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

exported! {
    /// Sends a packet with the backend as its destination.
    weir_nat, Way, nat
}

#[inline(always)]
fn nat(frame: &Frame, way: &Way) -> Result<End, End> {
    let (network, family) = (way.network, way.family);
    let Target { backend, hop, inner } = target(frame, way)?;
    age(frame, way, &inner)?;
    let moved = readdress(frame, network as usize, family, Side::Destination, backend.address);
    let (client, vip, change) = moved.ok_or(MALFORMED)?;
    let transport = way.transport as usize;
    match way.protocol {
        _ if transport == 0 => {}
        PROTOCOL_TCP | PROTOCOL_UDP => {
            let keep = way.how & KEEP_PORT != 0;
            let port = if keep { 0 } else { backend.port };
            let ports =
                report(frame, transport, way.protocol, family, Side::Destination, port, change);
            let (client_port, vip_port) = ports.ok_or(MALFORMED)?;
            let port = if keep { vip_port } else { backend.port };
            let key = FlowKey {
                source: backend.address,
                destination: client,
                ports: u32::from(port) << 16 | u32::from(client_port),
                protocol: way.protocol.into(),
            };
            let number = way.backend as u16;
            remember(
                &key,
                &NatValue { address: vip, vip: way.vip, port: vip_port, backend: number },
            );
        }
        PROTOCOL_ICMP | PROTOCOL_ICMP6 => {
            quoted(frame, transport, way, backend, change).ok_or(MALFORMED)?;
        }
        _ => {}
    }
    hop::address(frame.span::<12>(0).ok_or(MALFORMED)?, hop.ethernet);
    way.count();
    Ok(End::send(Send::Nat, hop::egress(frame, network, hop.interface)))
}

#[inline(always)]
fn remember(key: &FlowKey, value: &NatValue) {
    if let Some(known) = maps::nat_flow(key) {
        // SAFETY: the entry is freed only after this run; a wrong comparison costs one write.
        let known = unsafe { &*known };
        if known.address == value.address && known.port == value.port && known.vip == value.vip {
            return;
        }
    }
    maps::remember_nat(key, value);
}

/// The way of a packet that is for no VIP, if it is an answer of a backend behind one.
#[inline(always)]
pub fn note_return(flow: &Flow, way: &mut Way) -> End {
    let Some(entry) = find(&maps::Directory, flow.source, flow.source_port, flow.protocol) else {
        return End::GO_ON;
    };
    // SAFETY: the value of an array map, freed only after this run.
    if unsafe { (*entry).key } >> 24 != EntryKind::NatBackend as u32 {
        return End::GO_ON;
    }
    End(weir_note_return(flow, way))
}

/// Exported, so that it has a stack of its own.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_note_return(flow: *const Flow, way: *mut Way) -> u64 {
    if flow.is_null() || way.is_null() {
        return End::GO_ON.0;
    }
    // SAFETY: not null, and the verifier checks that the caller hands over whole ones.
    let (flow, way) = unsafe { (&*flow, &mut *way) };
    let Some(value) = maps::nat_flow(&FlowKey::of(flow)) else { return End::GO_ON.0 };
    // SAFETY: the entry is freed only after this run; if another flow gets it meanwhile, one packet
    // goes astray.
    let value = unsafe { &*value };
    way.vip = value.vip;
    way.how = RETURN;
    way.backend = value.backend.into();
    way.network = flow.network.into();
    way.transport = flow.transport.into();
    way.port = value.port.into();
    way.address = value.address;
    End::FORWARD.0
}

exported! {
    /// Sends a backend's answer to its client, with the VIP as source.
    weir_answer, Notes, answer
}

#[inline(always)]
fn answer(frame: &Frame, notes: &Notes) -> Result<End, End> {
    let Notes { flow, way, .. } = notes;
    let (network, family) = (u32::from(flow.network), flow.family);
    let no_route = End::dropped(Drop::NoRoute);
    let hop = hop::find(frame.0, flow.destination, family).ok_or(no_route)?;
    let inner = ip::inner(frame, network, family).ok_or(MALFORMED)?;
    if inner.ttl <= 1 {
        return Err(End::dropped(Drop::TtlExceeded));
    }
    ip::decrement_ttl(frame, network, family, inner.ttl).ok_or(MALFORMED)?;
    let moved = readdress(frame, network as usize, family, Side::Source, way.address);
    let (_, _, change) = moved.ok_or(MALFORMED)?;
    if way.port != 0 {
        let (at, port) = (usize::from(flow.transport), way.port as u16);
        report(frame, at, flow.protocol, family, Side::Source, port, change).ok_or(MALFORMED)?;
    }
    hop::address(frame.span::<12>(0).ok_or(MALFORMED)?, hop.ethernet);
    if flow.shape == Shape::FirstFragment {
        fragment::weir_remember(notes);
    }
    Ok(End::send(Send::NatReturn, hop::egress(frame, network, hop.interface)))
}

/// Changes an address: source and destination as they were, and what the change does to a sum.
#[inline(always)]
fn readdress(
    frame: &Frame,
    network: usize,
    family: u8,
    side: Side,
    address: Address,
) -> Option<(Address, Address, Sum)> {
    if family == V4 {
        let header = frame.span::<20>(network)?;
        let (source, destination) = (header.u32::<12>(), header.u32::<16>());
        let new = address.low as u32;
        let old = if side == Side::Source { source } else { destination };
        let change = Sum::default().subtract(old).add(new);
        header.put_u16::<10>(change.applied_to(header.u16::<10>()));
        if side == Side::Source {
            header.put_u32::<12>(new)
        } else {
            header.put_u32::<16>(new)
        }
        Some((Address::v4(source), Address::v4(destination), change))
    } else {
        let header = frame.span::<40>(network)?;
        let source = Address { high: header.u64::<8>(), low: header.u64::<16>() };
        let destination = Address { high: header.u64::<24>(), low: header.u64::<32>() };
        let old = if side == Side::Source { source } else { destination };
        if side == Side::Source {
            header.put_u64::<8>(address.high);
            header.put_u64::<16>(address.low);
        } else {
            header.put_u64::<24>(address.high);
            header.put_u64::<32>(address.low);
        }
        let change = Sum::default().subtract_long(old.high).subtract_long(old.low);
        Some((source, destination, change.add_long(address.high).add_long(address.low)))
    }
}

/// Changes a port, where it is not 0, and the checksum over it and the addresses; both ports as they
/// were.
#[inline(always)]
fn report(
    frame: &Frame,
    at: usize,
    protocol: u8,
    family: u8,
    side: Side,
    port: u16,
    addresses: Sum,
) -> Option<(u16, u16)> {
    let header = frame.span::<8>(at)?;
    let (source, destination) = (header.u16::<0>(), header.u16::<2>());
    let old = if side == Side::Source { source } else { destination };
    let new = if port == 0 { old } else { port };
    if side == Side::Source {
        header.put_u16::<0>(new)
    } else {
        header.put_u16::<2>(new)
    }
    let change = addresses.subtract(old.into()).add(new.into());
    if protocol == PROTOCOL_TCP {
        let header = frame.span::<20>(at)?;
        header.put_u16::<16>(change.applied_to(header.u16::<16>()));
    } else {
        let before = header.u16::<6>();
        // 0 says that there is none, which IPv4 allows.
        if before != 0 || family != V4 {
            let after = change.applied_to(before);
            header.put_u16::<6>(if after == 0 { 0xffff } else { after });
        }
    }
    Some((source, destination))
}

/// An ICMP error quotes a packet that said it came from the VIP; the backend knows its own address.
#[inline(always)]
fn quoted(
    frame: &Frame,
    transport: usize,
    way: &Way,
    backend: &BackendEntry,
    addresses: Sum,
) -> Option<()> {
    let at = transport + ICMP_SIZE;
    let (size, change) = if way.family == V4 {
        let header = frame.span::<20>(at)?;
        let size = usize::from(header.u8::<0>() & 0x0f) * 4;
        let before = header.u16::<10>();
        let (_, _, change) = readdress(frame, at, way.family, Side::Source, backend.address)?;
        let after = frame.span::<20>(at)?.u16::<10>();
        (size, change.subtract(before.into()).add(after.into()))
    } else {
        let (_, _, change) = readdress(frame, at, way.family, Side::Source, backend.address)?;
        // Over the addresses of the packet itself, too.
        (40, Sum(change.0 + addresses.0))
    };
    let ports = frame.span::<4>(at + size)?;
    let old = ports.u16::<0>();
    let new = if way.how & KEEP_PORT != 0 { old } else { backend.port };
    ports.put_u16::<0>(new);
    let icmp = frame.span::<8>(transport)?;
    let change = change.subtract(old.into()).add(new.into());
    icmp.put_u16::<2>(change.applied_to(icmp.u16::<2>()));
    Some(())
}
