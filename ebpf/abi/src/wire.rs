//! Headers to a `Flow`: Ethernet, VLAN tags, IPv4, IPv6, ports.
//!
//! Written for the verifier: every offset is bounded, every loop is short, every read is checked
//! against the end of the packet by [`Packet::span`].

use crate::{Address, Bytes, Drop, Packet, Pass, Verdict};

/// VLAN tags that are skipped (802.1ad and 802.1Q).
pub const VLAN_TAGS_MAX: usize = 2;
/// IPv6 extension headers that are walked.
pub const EXTENSIONS_MAX: usize = 6;

/// Bytes of a header.
pub const ETHERNET_SIZE: usize = 14;
const VLAN_SIZE: usize = 4;
/// Bytes of a header.
pub const IPV4_SIZE_MIN: usize = 20;
/// Bytes of a header.
pub const IPV6_SIZE: usize = 40;
/// Bytes of a header.
pub const UDP_SIZE: usize = 8;

/// As Ethernet numbers it.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// As Ethernet numbers it.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_VLAN_OUTER: u16 = 0x88a8;

/// Bits of a header's words for fragments.
const IPV4_OFFSET: u16 = 0x1fff;
const IPV4_MORE: u16 = 0x2000;
const IPV6_OFFSET: u16 = 0xfff8;
const IPV6_MORE: u16 = 1;

const PROTOCOL_HOP_BY_HOP: u8 = 0;
/// As IP numbers it.
pub const PROTOCOL_TCP: u8 = 6;
/// As IP numbers it.
pub const PROTOCOL_UDP: u8 = 17;
/// As IP numbers it.
pub const PROTOCOL_ICMP: u8 = 1;
/// As IP numbers it.
pub const PROTOCOL_ICMP6: u8 = 58;
/// As IP numbers it: IPv4 inside.
pub const PROTOCOL_IPIP: u8 = 4;
/// As IP numbers it: IPv6 inside.
pub const PROTOCOL_IPV6: u8 = 41;
const PROTOCOL_ROUTING: u8 = 43;
const PROTOCOL_FRAGMENT: u8 = 44;
const PROTOCOL_AUTHENTICATION: u8 = 51;
const PROTOCOL_DESTINATION: u8 = 60;

/// Who talks to whom, and where in the packet that is said. Plain numbers, so that it can be handed
/// to a function that the verifier looks at by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The sender.
    pub source: Address,
    /// The receiver.
    pub destination: Address,
    /// Of the sender; 0 without ports.
    pub source_port: u16,
    /// Of the receiver; 0 without ports.
    pub destination_port: u16,
    /// Where the network header is, bytes from the start of the packet.
    pub network: u16,
    /// Where the transport header is, or what a fragment carries.
    pub transport: u16,
    /// The identification of a fragment; else 0.
    pub fragment: u32,
    /// What follows the network headers, as IP numbers it.
    pub protocol: u8,
    /// [`V4`] or [`V6`].
    pub family: u8,
    /// What was found behind the network headers.
    pub shape: Shape,
    /// No more than a filling.
    pub unused: u8,
}

/// Of IPv4.
pub const V4: u8 = 4;
/// Of IPv6.
pub const V6: u8 = 6;

/// What was found behind the network headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shape {
    /// TCP or UDP, whole.
    Ports = 0,
    /// TCP or UDP, and more fragments follow.
    FirstFragment = 1,
    /// A fragment other than the first: its ports went before.
    LaterFragment = 2,
    /// Another protocol.
    Other = 3,
    /// More extension headers than [`EXTENSIONS_MAX`].
    Unparsed = 4,
}

/// What the headers behind the addresses say.
#[derive(Clone, Copy)]
struct Transport {
    at: usize,
    ports: u32,
    fragment: u32,
    protocol: u8,
    shape: Shape,
}

/// Where the network header is and which it is ([`ETHERTYPE_IPV4`], [`ETHERTYPE_IPV6`]).
///
/// # Errors
/// The verdict of a packet that is not IP, or malformed.
#[inline(always)]
pub fn network(packet: &impl Packet) -> Result<(usize, u16), Verdict> {
    let mut ethertype = span::<ETHERNET_SIZE, _>(packet, 0)?.u16::<12>();
    let mut at = ETHERNET_SIZE;
    for _ in 0..VLAN_TAGS_MAX {
        if ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_VLAN_OUTER {
            ethertype = span::<VLAN_SIZE, _>(packet, at)?.u16::<2>();
            at += VLAN_SIZE;
        }
    }
    match ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok((at, ethertype)),
        _ => Err(Verdict::Pass(Pass::NotIp)),
    }
}

/// The flow of a packet.
///
/// # Errors
/// The verdict of a packet that has none: not IP, or malformed.
#[inline(always)]
pub fn flow(packet: &impl Packet) -> Result<Flow, Verdict> {
    let (at, ethertype) = network(packet)?;
    if ethertype == ETHERTYPE_IPV4 { ipv4(packet, at) } else { ipv6(packet, at) }
}

/// The flow of a packet whose IPv4 header is at `at`.
///
/// # Errors
/// The verdict of a packet that is malformed.
#[inline(always)]
pub fn ipv4(packet: &impl Packet, at: usize) -> Result<Flow, Verdict> {
    let header = span::<IPV4_SIZE_MIN, _>(packet, at)?;
    let (first, flags) = (header.u8::<0>(), header.u16::<6>());
    let header_size = usize::from(first & 0x0f) * 4;
    let total_size = usize::from(header.u16::<2>());
    let is_consistent = first >> 4 == 4
        && header_size >= IPV4_SIZE_MIN
        && total_size >= header_size
        && at + total_size <= packet.length();
    if !is_consistent {
        return Err(MALFORMED);
    }
    let part = Part {
        is_later: flags & IPV4_OFFSET != 0,
        has_more: flags & IPV4_MORE != 0,
        identification: u32::from(header.u16::<4>()),
    };
    let (source, destination) = (Address::v4(header.u32::<12>()), Address::v4(header.u32::<16>()));
    let transport = transport(packet, at + header_size, header.u8::<9>(), part)?;
    Ok(whole(at, V4, source, destination, transport))
}

/// The flow of a packet whose IPv6 header is at `at`.
///
/// # Errors
/// The verdict of a packet that is malformed.
#[inline(always)]
pub fn ipv6(packet: &impl Packet, at: usize) -> Result<Flow, Verdict> {
    let header = span::<IPV6_SIZE, _>(packet, at)?;
    let payload_size = usize::from(header.u16::<4>());
    if header.u8::<0>() >> 4 != 6 || at + IPV6_SIZE + payload_size > packet.length() {
        return Err(MALFORMED);
    }
    let source = Address { high: header.u64::<8>(), low: header.u64::<16>() };
    let destination = Address { high: header.u64::<24>(), low: header.u64::<32>() };
    let transport = behind_extensions(packet, at + IPV6_SIZE, header.u8::<6>())?;
    Ok(whole(at, V6, source, destination, transport))
}

#[inline(always)]
fn whole(at: usize, family: u8, source: Address, destination: Address, found: Transport) -> Flow {
    Flow {
        source,
        destination,
        source_port: (found.ports >> 16) as u16,
        destination_port: found.ports as u16,
        network: at as u16,
        transport: found.at as u16,
        fragment: found.fragment,
        protocol: found.protocol,
        family,
        shape: found.shape,
        unused: 0,
    }
}

/// The transport behind extension headers, if there are any.
#[inline(always)]
fn behind_extensions(packet: &impl Packet, at: usize, next: u8) -> Result<Transport, Verdict> {
    if !is_extension(next) {
        return transport(packet, at, next, Part::WHOLE);
    }
    let walked = packet.walk(at, next);
    if walked.has(Walked::MALFORMED) {
        return Err(MALFORMED);
    }
    let (at, protocol) = (walked.0 as u16 as usize, (walked.0 >> 16) as u8);
    if walked.has(Walked::UNPARSED) {
        return Ok(Transport { at, ports: 0, fragment: 0, protocol, shape: Shape::Unparsed });
    }
    let part = Part {
        is_later: walked.has(Walked::LATER),
        has_more: walked.has(Walked::MORE),
        identification: (walked.0 >> 32) as u32,
    };
    transport(packet, at, protocol, part)
}

/// Where a walk along extension headers ended, as one number: where the next header is and which it
/// is, what is to be said of it, the identification of a fragment (16, 8, 8, 32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked(pub u64);

impl Walked {
    const MALFORMED: u64 = 1 << 24;
    const UNPARSED: u64 = 1 << 25;
    const LATER: u64 = 1 << 26;
    const MORE: u64 = 1 << 27;

    #[inline(always)]
    const fn has(self, what: u64) -> bool {
        self.0 & what != 0
    }
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        PROTOCOL_HOP_BY_HOP
            | PROTOCOL_ROUTING
            | PROTOCOL_DESTINATION
            | PROTOCOL_FRAGMENT
            | PROTOCOL_AUTHENTICATION
    )
}

/// Walks along extension headers, from the one of this kind at `at`.
#[inline(always)]
pub fn walk(packet: &impl Packet, at: usize, next: u8) -> Walked {
    const MALFORMED: Walked = Walked(Walked::MALFORMED);
    let (mut at, mut next, mut found) = (at, next, 0);
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(next) {
            break;
        }
        let Some(header) = packet.span::<4>(at) else { return MALFORMED };
        let (following, length, offset) = (header.u8::<0>(), header.u8::<1>(), header.u16::<2>());
        let size = match next {
            PROTOCOL_FRAGMENT => {
                let Some(rest) = packet.span::<4>(at + 4) else { return MALFORMED };
                found = u64::from(rest.u32::<0>()) << 32;
                if offset & IPV6_MORE != 0 {
                    found |= Walked::MORE;
                }
                if offset & IPV6_OFFSET != 0 {
                    let end = (at + 8) as u64 & 0xffff | u64::from(following) << 16;
                    return Walked(found | Walked::LATER | end);
                }
                8
            }
            PROTOCOL_AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        next = following;
        at += size;
    }
    if is_extension(next) {
        found |= Walked::UNPARSED;
    }
    Walked(found | at as u64 & 0xffff | u64::from(next) << 16)
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy)]
struct Part {
    is_later: bool,
    has_more: bool,
    identification: u32,
}

impl Part {
    const WHOLE: Self = Self { is_later: false, has_more: false, identification: 0 };
}

#[inline(always)]
fn transport(
    packet: &impl Packet,
    at: usize,
    protocol: u8,
    part: Part,
) -> Result<Transport, Verdict> {
    let fragment = if part.is_later || part.has_more { part.identification } else { 0 };
    let found = Transport { at, ports: 0, fragment, protocol, shape: Shape::Other };
    if part.is_later {
        return Ok(Transport { shape: Shape::LaterFragment, ..found });
    }
    if protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP {
        return Ok(found);
    }
    let ports = span::<4, _>(packet, at)?.u32::<0>();
    let shape = if part.has_more { Shape::FirstFragment } else { Shape::Ports };
    Ok(Transport { ports, shape, ..found })
}

const MALFORMED: Verdict = Verdict::Drop(Drop::Malformed);

#[inline(always)]
fn span<const N: usize, P: Packet>(packet: &P, at: usize) -> Result<P::Span<N>, Verdict> {
    match packet.span(at) {
        Some(span) => Ok(span),
        None => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    const V4_SOURCE: [u8; 4] = [192, 0, 2, 1];
    const V4_DESTINATION: [u8; 4] = [198, 51, 100, 2];

    /// Ethernet with these tags, then `payload`.
    fn ethernet(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = std::vec![0; 12];
        for tag in tags {
            packet.extend(tag.to_be_bytes());
            packet.extend([0, 7]);
        }
        packet.extend(ethertype.to_be_bytes());
        packet.extend(payload);
        packet
    }

    fn ipv4(options: &[u8], offset: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let words = 5 + options.len() / 4;
        let total = words * 4 + payload.len();
        let mut header = std::vec![0x40 | u8::try_from(words).unwrap(), 0];
        header.extend(u16::try_from(total).unwrap().to_be_bytes());
        header.extend([0, 0]);
        header.extend(offset.to_be_bytes());
        header.extend([64, protocol, 0, 0]);
        header.extend(V4_SOURCE);
        header.extend(V4_DESTINATION);
        header.extend(options);
        header.extend(payload);
        header
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = std::vec![0x60, 0, 0, 0];
        header.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        header.extend([next, 64]);
        header.extend([1; 16]);
        header.extend([2; 16]);
        header.extend(payload);
        header
    }

    fn tcp() -> Vec<u8> {
        let mut header = Vec::from([0x9c, 0x40, 0, 80]);
        header.resize(20, 0);
        header
    }

    /// Shape, protocol and ports of a flow.
    type Found = (Shape, u8, u16, u16);

    const TCP: Found = (Shape::Ports, 6, 40_000, 80);

    fn transport_of(packet: &[u8]) -> Result<Found, Verdict> {
        let found =
            |flow: Flow| (flow.shape, flow.protocol, flow.source_port, flow.destination_port);
        flow(&packet).map(found)
    }

    #[test]
    fn reads_addresses_and_ports() {
        let packet = ethernet(&[], ETHERTYPE_IPV4, &ipv4(&[], 0, 6, &tcp()));
        let expected = Flow {
            source: Address::v4(u32::from_be_bytes(V4_SOURCE)),
            destination: Address::v4(u32::from_be_bytes(V4_DESTINATION)),
            source_port: 40_000,
            destination_port: 80,
            network: 14,
            transport: 34,
            fragment: 0,
            protocol: 6,
            family: V4,
            shape: Shape::Ports,
            unused: 0,
        };
        assert_eq!(flow(&packet.as_slice()), Ok(expected));
        let packet = ethernet(&[], ETHERTYPE_IPV6, &ipv6(6, &tcp()));
        let expected = Flow {
            source: Address { high: 0x0101_0101_0101_0101, low: 0x0101_0101_0101_0101 },
            destination: Address { high: 0x0202_0202_0202_0202, low: 0x0202_0202_0202_0202 },
            transport: 54,
            family: V6,
            ..expected
        };
        assert_eq!(flow(&packet.as_slice()), Ok(expected));
    }

    #[test]
    fn skips_two_vlan_tags_and_not_three() {
        let payload = ipv4(&[], 0, 6, &tcp());
        for (tags, expected) in [
            (&[0x8100][..], Ok(TCP)),
            (&[0x88a8, 0x8100], Ok(TCP)),
            (&[0x88a8, 0x8100, 0x8100], Err(Verdict::Pass(Pass::NotIp))),
        ] {
            let packet = ethernet(tags, ETHERTYPE_IPV4, &payload);
            assert_eq!(transport_of(&packet), expected, "{tags:?}");
        }
    }

    #[test]
    fn ipv4_options_and_fragments() {
        for (packet, expected) in [
            (ipv4(&[1; 4], 0, 6, &tcp()), Ok(TCP)),
            (ipv4(&[1; 40], 0, 17, &tcp()), Ok((Shape::Ports, 17, 40_000, 80))),
            (ipv4(&[], 0x2000, 6, &tcp()), Ok((Shape::FirstFragment, 6, 40_000, 80))),
            (ipv4(&[], 185, 6, &[0; 8]), Ok((Shape::LaterFragment, 6, 0, 0))),
            (ipv4(&[], 0, 1, &[8, 0]), Ok((Shape::Other, 1, 0, 0))),
            (ipv4(&[], 0, 6, &[0; 3]), Err(MALFORMED)),
        ] {
            assert_eq!(transport_of(&ethernet(&[], ETHERTYPE_IPV4, &packet)), expected);
        }
    }

    #[test]
    fn extension_headers_up_to_the_bound() {
        let chain = |count: usize| {
            let mut payload = Vec::new();
            for index in 0..count {
                payload.extend([if index + 1 == count { 6 } else { PROTOCOL_DESTINATION }, 0]);
                payload.extend([0; 6]);
            }
            payload.extend(tcp());
            let first = if count == 0 { 6 } else { PROTOCOL_DESTINATION };
            ethernet(&[], ETHERTYPE_IPV6, &ipv6(first, &payload))
        };
        for count in 0..=EXTENSIONS_MAX {
            assert_eq!(transport_of(&chain(count)), Ok(TCP), "{count}");
        }
        let unparsed = Ok((Shape::Unparsed, PROTOCOL_DESTINATION, 0, 0));
        assert_eq!(transport_of(&chain(EXTENSIONS_MAX + 1)), unparsed);
    }

    #[test]
    fn contradictions_are_malformed() {
        let mut short_header = ipv4(&[], 0, 6, &tcp());
        short_header[0] = 0x44;
        let mut wrong_version = ipv4(&[], 0, 6, &tcp());
        wrong_version[0] = 0x65;
        let mut too_long = ipv4(&[], 0, 6, &tcp());
        too_long[3] = 255;
        let mut too_short = ipv4(&[], 0, 6, &tcp());
        too_short[3] = 19;
        for packet in [short_header, wrong_version, too_long, too_short] {
            assert_eq!(transport_of(&ethernet(&[], ETHERTYPE_IPV4, &packet)), Err(MALFORMED));
        }
    }

    #[test]
    fn every_truncation_is_malformed_and_nothing_panics() {
        for whole in [
            ethernet(&[0x88a8, 0x8100], ETHERTYPE_IPV4, &ipv4(&[1; 8], 0, 6, &tcp())),
            ethernet(&[], ETHERTYPE_IPV6, &ipv6(6, &tcp())),
        ] {
            for length in 0..whole.len() {
                assert_eq!(transport_of(&whole[..length]), Err(MALFORMED), "{length}");
            }
        }
    }

    #[test]
    fn damaged_packets_never_panic() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let seed = ethernet(&[0x8100], ETHERTYPE_IPV6, &ipv6(0, &[60, 1, 0, 0, 0, 0, 0, 0, 6, 0]));
        for _ in 0..200_000 {
            let mut packet = seed.clone();
            packet.resize(usize::try_from(random() % 120).unwrap(), 0);
            for _ in 0..random() % 8 {
                if let Some(byte) = packet.get_mut(usize::try_from(random() % 120).unwrap()) {
                    *byte = u8::try_from(random() & 0xff).unwrap();
                }
            }
            let _ = flow(&packet.as_slice());
        }
    }
}
