//! Headers to a `Flow`: Ethernet, VLAN tags, IPv4, IPv6, ports.
//!
//! Written for the verifier: every offset is bounded, every loop is short, every read is checked
//! against the end of the packet by [`Packet::read`].

use crate::{Drop, Pass, Verdict};

/// VLAN tags that are skipped (802.1ad and 802.1Q).
pub const VLAN_TAGS_MAX: usize = 2;
/// IPv6 extension headers that are walked.
pub const EXTENSIONS_MAX: usize = 6;

const ETHERNET_SIZE: usize = 14;
const VLAN_SIZE: usize = 4;
const IPV4_SIZE_MIN: usize = 20;
const IPV6_SIZE: usize = 40;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_VLAN_OUTER: u16 = 0x88a8;

const PROTOCOL_HOP_BY_HOP: u8 = 0;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ROUTING: u8 = 43;
const PROTOCOL_FRAGMENT: u8 = 44;
const PROTOCOL_AUTHENTICATION: u8 = 51;
const PROTOCOL_DESTINATION: u8 = 60;

/// Bytes of a packet from the Ethernet header on.
pub trait Packet {
    /// The `N` bytes at `at`; `None` past the end.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The number that four bytes are in network order. A machine that reads them at once may do so.
    #[inline(always)]
    fn read_u32(&self, at: usize) -> Option<u32> {
        self.read(at).map(u32::from_be_bytes)
    }

    /// The number that eight bytes are in network order.
    #[inline(always)]
    fn read_u64(&self, at: usize) -> Option<u64> {
        self.read(at).map(u64::from_be_bytes)
    }

    /// Bytes of the packet.
    fn length(&self) -> usize;
}

impl Packet for &[u8] {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.len()
    }
}

/// An address; one of IPv4 as the mapped one of IPv6 (`::ffff:192.0.2.1`), which is the same host.
///
/// Plain numbers instead of variants: the verifier refuses what a compiler leaves undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The first eight bytes, the first of them the most significant.
    pub high: u64,
    /// The other eight.
    pub low: u64,
}

impl Address {
    /// An address of IPv4.
    #[inline(always)]
    #[must_use]
    pub const fn v4(address: u32) -> Self {
        Self { high: 0, low: 0xffff_0000_0000 | address as u64 }
    }

    /// Whether it is one of IPv4: the lower half of `low`.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == 0xffff
    }
}

/// Where the network header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// IPv4, so many bytes from the start of the packet.
    V4(usize),
    /// IPv6, likewise.
    V6(usize),
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where that is said.
    pub network: Network,
    /// The sender.
    pub source: Address,
    /// The receiver.
    pub destination: Address,
    /// What follows the network headers.
    pub transport: Transport,
}

/// What follows the network headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP or UDP.
    Ports {
        /// 6 or 17.
        protocol: u8,
        /// Of the sender.
        source: u16,
        /// Of the receiver.
        destination: u16,
    },
    /// Another protocol.
    Other(u8),
    /// A fragment other than the first: its ports went before.
    LaterFragment(u8),
    /// More extension headers than [`EXTENSIONS_MAX`].
    Unparsed,
}

/// The flow of a packet.
///
/// # Errors
/// The verdict of a packet that has none: not IP, or malformed.
#[inline(always)]
pub fn flow(packet: &impl Packet) -> Result<Flow, Verdict> {
    let mut ethertype = u16::from_be_bytes(read(packet, ETHERNET_SIZE - 2)?);
    let mut at = ETHERNET_SIZE;
    for _ in 0..VLAN_TAGS_MAX {
        if ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_VLAN_OUTER {
            ethertype = u16::from_be_bytes(read(packet, at + 2)?);
            at += VLAN_SIZE;
        }
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, at),
        ETHERTYPE_IPV6 => ipv6(packet, at),
        _ => Err(Verdict::Pass(Pass::NotIp)),
    }
}

#[inline(always)]
fn ipv4(packet: &impl Packet, at: usize) -> Result<Flow, Verdict> {
    let header: [u8; IPV4_SIZE_MIN] = read(packet, at)?;
    let header_size = usize::from(header[0] & 0x0f) * 4;
    let total_size = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_consistent = header[0] >> 4 == 4
        && header_size >= IPV4_SIZE_MIN
        && total_size >= header_size
        && at + total_size <= packet.length();
    if !is_consistent {
        return Err(MALFORMED);
    }
    let protocol = header[9];
    let fragment_offset = u16::from_be_bytes([header[6] & 0x1f, header[7]]);
    let transport = if fragment_offset == 0 {
        transport(packet, at + header_size, protocol)?
    } else {
        Transport::LaterFragment(protocol)
    };
    Ok(Flow {
        network: Network::V4(at),
        source: Address::v4(packet.read_u32(at + 12).ok_or(MALFORMED)?),
        destination: Address::v4(packet.read_u32(at + 16).ok_or(MALFORMED)?),
        transport,
    })
}

#[inline(always)]
fn ipv6(packet: &impl Packet, at: usize) -> Result<Flow, Verdict> {
    let [first, _, _, _, size_high, size_low, next, _]: [u8; 8] = read(packet, at)?;
    let payload_size = usize::from(u16::from_be_bytes([size_high, size_low]));
    if first >> 4 != 6 || at + IPV6_SIZE + payload_size > packet.length() {
        return Err(MALFORMED);
    }
    Ok(Flow {
        network: Network::V6(at),
        source: address6(packet, at + 8)?,
        destination: address6(packet, at + 24)?,
        transport: extensions(packet, at + IPV6_SIZE, next)?,
    })
}

#[inline(always)]
fn address6(packet: &impl Packet, at: usize) -> Result<Address, Verdict> {
    match (packet.read_u64(at), packet.read_u64(at + 8)) {
        (Some(high), Some(low)) => Ok(Address { high, low }),
        _ => Err(MALFORMED),
    }
}

/// Walks the extension headers to the transport.
#[inline(always)]
fn extensions(packet: &impl Packet, at: usize, next: u8) -> Result<Transport, Verdict> {
    let (mut at, mut next) = (at, next);
    for _ in 0..EXTENSIONS_MAX {
        let size = match next {
            PROTOCOL_HOP_BY_HOP | PROTOCOL_ROUTING | PROTOCOL_DESTINATION => {
                let [following, length]: [u8; 2] = read(packet, at)?;
                next = following;
                (usize::from(length) + 1) * 8
            }
            PROTOCOL_AUTHENTICATION => {
                let [following, length]: [u8; 2] = read(packet, at)?;
                next = following;
                (usize::from(length) + 2) * 4
            }
            PROTOCOL_FRAGMENT => {
                let [following, _, high, low]: [u8; 4] = read(packet, at)?;
                if u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
                    return Ok(Transport::LaterFragment(following));
                }
                next = following;
                8
            }
            _ => return transport(packet, at, next),
        };
        at += size;
    }
    match next {
        PROTOCOL_HOP_BY_HOP
        | PROTOCOL_ROUTING
        | PROTOCOL_DESTINATION
        | PROTOCOL_FRAGMENT
        | PROTOCOL_AUTHENTICATION => Ok(Transport::Unparsed),
        _ => transport(packet, at, next),
    }
}

#[inline(always)]
fn transport(packet: &impl Packet, at: usize, protocol: u8) -> Result<Transport, Verdict> {
    if protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP {
        return Ok(Transport::Other(protocol));
    }
    let [source_high, source_low, destination_high, destination_low]: [u8; 4] = read(packet, at)?;
    Ok(Transport::Ports {
        protocol,
        source: u16::from_be_bytes([source_high, source_low]),
        destination: u16::from_be_bytes([destination_high, destination_low]),
    })
}

const MALFORMED: Verdict = Verdict::Drop(Drop::Malformed);

#[inline(always)]
fn read<const N: usize>(packet: &impl Packet, at: usize) -> Result<[u8; N], Verdict> {
    match packet.read(at) {
        Some(bytes) => Ok(bytes),
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

    const TCP: Transport = Transport::Ports { protocol: 6, source: 40_000, destination: 80 };

    fn transport_of(packet: &[u8]) -> Result<Transport, Verdict> {
        flow(&packet).map(|flow| flow.transport)
    }

    #[test]
    fn reads_addresses_and_ports() {
        let packet = ethernet(&[], ETHERTYPE_IPV4, &ipv4(&[], 0, 6, &tcp()));
        let expected = Flow {
            network: Network::V4(ETHERNET_SIZE),
            source: Address::v4(u32::from_be_bytes(V4_SOURCE)),
            destination: Address::v4(u32::from_be_bytes(V4_DESTINATION)),
            transport: TCP,
        };
        assert_eq!(flow(&packet.as_slice()), Ok(expected));
        let packet = ethernet(&[], ETHERTYPE_IPV6, &ipv6(6, &tcp()));
        let expected = Flow {
            network: Network::V6(ETHERNET_SIZE),
            source: Address { high: 0x0101_0101_0101_0101, low: 0x0101_0101_0101_0101 },
            destination: Address { high: 0x0202_0202_0202_0202, low: 0x0202_0202_0202_0202 },
            transport: TCP,
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
            (
                ipv4(&[1; 40], 0, 17, &tcp()),
                Ok(Transport::Ports { protocol: 17, source: 40_000, destination: 80 }),
            ),
            (ipv4(&[], 0x2000, 6, &tcp()), Ok(TCP)),
            (ipv4(&[], 185, 6, &[0; 8]), Ok(Transport::LaterFragment(6))),
            (ipv4(&[], 0, 1, &[8, 0]), Ok(Transport::Other(1))),
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
        assert_eq!(transport_of(&chain(EXTENSIONS_MAX + 1)), Ok(Transport::Unparsed));
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
