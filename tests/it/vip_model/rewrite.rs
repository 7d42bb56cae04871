//! What packets look like afterwards, byte by byte. Neighbours and routes are those of the test bench.

use std::net::{IpAddr, SocketAddr};

use weir_abi::Flow;
use weir_model::{Forward, Vip};

use super::model::ip;

const MTU: usize = 1_500;
const QUOTE: usize = 128;
/// The bench's own addresses.
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const OWN4: [u8; 4] = [10, 9, 1, 1];

/// A packet's way.
pub(super) struct Sent<'a> {
    pub(super) vip: &'a Vip,
    pub(super) backend: SocketAddr,
    pub(super) hash: u32,
    /// Whether it has ports.
    pub(super) transport: bool,
}

/// To a backend.
pub(super) fn forward(packet: &[u8], flow: &Flow, sent: &Sent<'_>) -> (&'static str, Vec<u8>) {
    let (network, is_v6) = (usize::from(flow.network), flow.family == 6);
    let backend = sent.backend.ip();
    let is_gue = sent.vip.forward == Forward::Gue;
    let overhead = if backend.is_ipv6() { 40 } else { 20 } + if is_gue { 8 } else { 0 };
    let is_tunnel = matches!(sent.vip.forward, Forward::Ipip | Forward::Gue);
    let size = ip_size(packet, network, is_v6);
    if is_tunnel && size + overhead > MTU {
        return ("too_big", too_big(packet, network, is_v6, MTU - overhead));
    }
    let mut out = packet.to_vec();
    if !decrement(&mut out, network, is_v6) {
        return ("ttl_exceeded", packet.to_vec());
    }
    if is_tunnel {
        let outer = outer(&out[network..], size, is_v6, sent, is_gue);
        out.splice(network..network, outer);
        let ethertype: [u8; 2] = if backend.is_ipv6() { [0x86, 0xdd] } else { [8, 0] };
        out[network - 2..network].copy_from_slice(&ethertype);
    }
    if sent.vip.forward == Forward::Nat {
        let port = sent.vip.port.map(|_| sent.backend.port());
        if !translate(&mut out, flow, backend, port, sent.transport) {
            return ("malformed", Vec::new());
        }
    }
    out[..6].copy_from_slice(&mac(backend));
    out[6..12].copy_from_slice(&OWN_MAC);
    let reason = match sent.vip.forward {
        Forward::Ipip => "ipip",
        Forward::Gue => "gue",
        Forward::L2 => "l2",
        Forward::Nat => "nat",
    };
    (reason, out)
}

/// From a backend to its client; port 0 is a fragment without ports.
pub(super) fn answer(packet: &[u8], flow: &Flow, vip: SocketAddr) -> (&'static str, Vec<u8>) {
    let (network, is_v6) = (usize::from(flow.network), flow.family == 6);
    let client = ip(flow.destination);
    let has_route = match client {
        IpAddr::V4(ip) => ip.octets()[..3] == [192, 0, 2] || ip.octets()[..2] == [10, 9],
        IpAddr::V6(ip) => {
            ip.segments()[..2] == [0x2001, 0xdb8] || ip.segments()[..4] == [0xfd09, 0, 0, 0]
        }
    };
    if !has_route {
        return ("no_route", packet.to_vec());
    }
    let mut out = packet.to_vec();
    if !decrement(&mut out, network, is_v6) {
        return ("ttl_exceeded", packet.to_vec());
    }
    let at = if is_v6 { network + 8 } else { network + 12 };
    let old = replace_address(&mut out, network, at, vip.ip());
    if vip.port() != 0 {
        let transport = usize::from(flow.transport);
        let mut changes = old;
        changes.push((word(&out, transport), vip.port()));
        put(&mut out, transport, vip.port());
        fix_transport(&mut out, transport, flow.protocol, is_v6, &changes);
    }
    out[..6].copy_from_slice(&[2, 0, 0, 0, 1, 99]);
    out[6..12].copy_from_slice(&OWN_MAC);
    ("nat_return", out)
}

/// A ping's answer.
pub(super) fn pong(packet: &[u8], flow: &Flow) -> Vec<u8> {
    let (network, at) = (usize::from(flow.network), usize::from(flow.transport));
    let mut out = packet.to_vec();
    turn(&mut out);
    let kind = word(&out, at);
    if flow.family == 6 {
        out[at] = 129;
        swap(&mut out, network + 8, network + 24, 16);
        out[network + 7] = 64;
    } else {
        out[at] = 0;
        swap(&mut out, network + 12, network + 16, 4);
        let before = word(&out, network + 8);
        out[network + 8] = 64;
        let after = word(&out, network + 8);
        fix(&mut out, network + 10, &[(before & 0xff00, after & 0xff00)]);
    }
    let now = word(&out, at);
    fix(&mut out, at + 2, &[(kind & 0xff00, now & 0xff00)]);
    out
}

fn too_big(packet: &[u8], network: usize, is_v6: bool, mtu: usize) -> Vec<u8> {
    let quote = &packet[network..network + QUOTE];
    let mut icmp = if is_v6 { vec![2, 0, 0, 0] } else { vec![3, 4, 0, 0] };
    let mtu = if is_v6 { mtu.max(1_280) } else { mtu };
    icmp.extend(u32::try_from(mtu).unwrap().to_be_bytes());
    icmp.extend(quote);
    let mut header;
    if is_v6 {
        header = vec![0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 64];
        header.extend(&quote[24..40]);
        header.extend(&quote[8..24]);
        let pseudo = [&header[8..40], &[0, 0, 0, icmp.len() as u8, 0, 0, 0, 58]].concat();
        let sum = checksum(&[pseudo.as_slice(), &icmp].concat());
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    } else {
        header = vec![0x45, 0, 0, 20 + icmp.len() as u8, 0, 0, 0, 0, 64, 1, 0, 0];
        header.extend(&quote[16..20]);
        header.extend(&quote[12..16]);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let mut out = packet[..network].to_vec();
    turn(&mut out);
    [out, header, icmp].concat()
}

fn outer(inner: &[u8], size: usize, is_v6: bool, sent: &Sent<'_>, is_gue: bool) -> Vec<u8> {
    let class = if is_v6 { inner[0] << 4 | inner[1] >> 4 } else { inner[1] };
    let protocol = match (is_gue, is_v6) {
        (true, _) => 17,
        (false, false) => 4,
        (false, true) => 41,
    };
    let mut udp = Vec::new();
    if is_gue {
        udp.extend((0xc000 | sent.hash as u16 & 0x3fff).to_be_bytes());
        udp.extend(6_080u16.to_be_bytes());
        udp.extend(((size + 8) as u16).to_be_bytes());
        udp.extend([0, 0]);
    }
    let length = size + udp.len();
    let mut header = Vec::new();
    match sent.backend.ip() {
        IpAddr::V4(ip) => {
            header.extend([0x45, class]);
            header.extend(((length + 20) as u16).to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(OWN4);
            header.extend(ip.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        IpAddr::V6(ip) => {
            let first = 6 << 28 | u32::from(class) << 20 | sent.hash & 0xf_ffff;
            header.extend(first.to_be_bytes());
            header.extend((length as u16).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend("fd09::ffff".parse::<std::net::Ipv6Addr>().unwrap().octets());
            header.extend(ip.octets());
        }
    }
    header.extend(udp);
    header
}

/// The destination is the backend; so is the source of what an ICMP error quotes.
fn translate(
    out: &mut [u8],
    flow: &Flow,
    backend: IpAddr,
    port: Option<u16>,
    transport: bool,
) -> bool {
    let (network, at, is_v6) =
        (usize::from(flow.network), usize::from(flow.transport), flow.family == 6);
    let place = if is_v6 { network + 24 } else { network + 16 };
    let changes = replace_address(out, network, place, backend);
    if !transport {
        return true;
    }
    if flow.protocol == 6 || flow.protocol == 17 {
        let old = word(out, at + 2);
        let new = port.unwrap_or(old);
        put(out, at + 2, new);
        let mut changes = changes;
        changes.push((old, new));
        return fix_transport(out, at, flow.protocol, is_v6, &changes);
    }
    let inner = at + 8;
    let (place, ports) = if is_v6 {
        (inner + 8, inner + 40)
    } else {
        (inner + 12, inner + usize::from(out[inner] & 15) * 4)
    };
    let sum_before = word(out, inner + 10);
    let mut quoted = replace_address(out, inner, place, backend);
    if is_v6 {
        quoted.extend(changes);
    } else {
        quoted.push((sum_before, word(out, inner + 10)));
    }
    let old = word(out, ports);
    let new = port.unwrap_or(old);
    put(out, ports, new);
    quoted.push((old, new));
    fix(out, at + 2, &quoted);
    true
}

/// Changes an address and, of IPv4, the header's checksum; which words changed from what to what.
fn replace_address(out: &mut [u8], network: usize, at: usize, new: IpAddr) -> Vec<(u16, u16)> {
    let bytes = match new {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut changes = Vec::new();
    for (index, pair) in bytes.chunks(2).enumerate() {
        let new = u16::from_be_bytes([pair[0], pair[1]]);
        changes.push((word(out, at + 2 * index), new));
        put(out, at + 2 * index, new);
    }
    if new.is_ipv4() {
        fix(out, network + 10, &changes);
    }
    changes
}

fn fix_transport(
    out: &mut [u8],
    at: usize,
    protocol: u8,
    is_v6: bool,
    changes: &[(u16, u16)],
) -> bool {
    let place = if protocol == 6 { at + 16 } else { at + 6 };
    if out.len() < at + if protocol == 6 { 20 } else { 8 } {
        return false;
    }
    if protocol == 17 && !is_v6 && word(out, place) == 0 {
        return true;
    }
    fix(out, place, changes);
    if protocol == 17 && word(out, place) == 0 {
        put(out, place, 0xffff);
    }
    true
}

/// RFC 1624.
fn fix(out: &mut [u8], at: usize, changes: &[(u16, u16)]) {
    let mut sum = u32::from(!word(out, at));
    for (old, new) in changes {
        sum += u32::from(!*old) + u32::from(*new);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    put(out, at, !(sum as u16));
}

fn decrement(out: &mut [u8], network: usize, is_v6: bool) -> bool {
    let at = if is_v6 { network + 7 } else { network + 8 };
    if out[at] <= 1 {
        return false;
    }
    let before = word(out, network + 8) & 0xff00;
    out[at] -= 1;
    let after = word(out, network + 8) & 0xff00;
    if !is_v6 {
        fix(out, network + 10, &[(before, after)]);
    }
    true
}

fn ip_size(packet: &[u8], network: usize, is_v6: bool) -> usize {
    let size = |at: usize| usize::from(word(packet, network + at));
    if is_v6 { 40 + size(4) } else { size(2) }
}

fn mac(backend: IpAddr) -> [u8; 6] {
    let last = match backend {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    [2, 0, 0, 0, 1, last]
}

fn turn(out: &mut [u8]) {
    swap(out, 0, 6, 6);
}

fn swap(out: &mut [u8], a: usize, b: usize, size: usize) {
    for index in 0..size {
        out.swap(a + index, b + index);
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}
