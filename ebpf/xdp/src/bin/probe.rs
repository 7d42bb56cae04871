//! Health probes to VIPs by way of one backend: see `weir_abi::probe`.
#![no_std]
#![no_main]

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{HashMap, LruHashMap};
use aya_ebpf::programs::TcContext;
use weir_abi::checksum::Sum;
use weir_abi::probe::{ANSWERS_MAX, Answer, MARK, PROBES_MAX, Probe};
use weir_abi::vip::{FlowKey, Forward};
use weir_abi::wire::{
    self, ETHERTYPE_IPV4, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_TCP, PROTOCOL_UDP, V4,
};
use weir_abi::{Flow, Packet, Shape};
use weir_xdp::{Endpoint, Side, Skb};

const NO_PREALLOC: u32 = 1;
const OUTER4_SIZE: usize = 20;
const OUTER6_SIZE: usize = 40;
const UDP_SIZE: usize = 8;
const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
/// The UDP port that a probe's GUE comes from: one flow is enough for it.
const GUE_SOURCE_PORT: u16 = 0xc000;

/// By the mark of a probe's socket.
#[map]
static PROBES: HashMap<u32, Probe> = HashMap::with_max_entries(PROBES_MAX, NO_PREALLOC);

/// By the flow of the answer.
#[map]
static ANSWERS: LruHashMap<FlowKey, Answer> = LruHashMap::with_max_entries(ANSWERS_MAX, 0);

/// Packets on their way out.
#[classifier]
pub fn weir_probe_out(context: TcContext) -> i32 {
    let skb = Skb(context.skb.skb);
    if skb.mark() & 0xffff_0000 != MARK {
        return TC_ACT_UNSPEC;
    }
    let Some(probe) = PROBES.get_ptr_mut(skb.mark()) else { return TC_ACT_UNSPEC };
    // SAFETY: an entry of the map, which stays readable while the program runs; only the count changes.
    let probe = unsafe { &mut *probe };
    skb.pull();
    let Some(flow) = tcp(&skb) else { return TC_ACT_UNSPEC };
    if flow.destination != probe.backend || flow.destination_port != probe.backend_port {
        return TC_ACT_UNSPEC;
    }
    probe.packets += 1;
    if sent(&skb, &flow, probe).is_some() { TC_ACT_UNSPEC } else { TC_ACT_SHOT }
}

/// Packets that have come.
#[classifier]
pub fn weir_probe_in(context: TcContext) -> i32 {
    let skb = Skb(context.skb.skb);
    let Some(flow) = tcp(&skb) else { return TC_ACT_UNSPEC };
    // SAFETY: an entry of the map, which stays readable while the program runs.
    let Some(answer) = (unsafe { ANSWERS.get(FlowKey::of(&flow)) }) else { return TC_ACT_UNSPEC };
    let from = Endpoint { address: flow.source, port: flow.source_port };
    let to = Endpoint { address: answer.backend, port: answer.port as u16 };
    match skb.readdress(&flow, Side::Source, from, to) {
        Some(()) => TC_ACT_UNSPEC,
        None => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn tcp(skb: &Skb) -> Option<Flow> {
    let (network, ethertype) = wire::network(skb).ok()?;
    let flow = if ethertype == ETHERTYPE_IPV4 {
        wire::ipv4(skb, network)
    } else {
        wire::ipv6(skb, network)
    };
    let is_tcp = |flow: &Flow| flow.protocol == PROTOCOL_TCP && flow.shape == Shape::Ports;
    flow.ok().filter(is_tcp)
}

/// Puts the VIP in the backend's place and wraps the packet; notes whose answer will come.
#[inline(always)]
fn sent(skb: &Skb, flow: &Flow, probe: &Probe) -> Option<()> {
    let key = FlowKey {
        source: probe.vip,
        destination: flow.source,
        ports: u32::from(probe.vip_port) << 16 | u32::from(flow.source_port),
        protocol: PROTOCOL_TCP.into(),
    };
    let port = u32::from(probe.backend_port);
    ANSWERS.insert(key, Answer { backend: probe.backend, port, unused: 0 }, 0).ok()?;
    let from = Endpoint { address: probe.backend, port: probe.backend_port };
    let to = Endpoint { address: probe.vip, port: probe.vip_port };
    skb.readdress(flow, Side::Destination, from, to)?;
    if probe.forward == Forward::L2 as u8 {
        return Some(());
    }
    let is_gue = probe.forward == Forward::Gue as u8;
    let size = skb.length() - usize::from(flow.network);
    let at = usize::from(flow.network);
    let udp = if is_gue { UDP_SIZE } else { 0 };
    if flow.family == V4 {
        skb.wrap(OUTER4_SIZE + udp, V4, is_gue)?;
        skb.store(at, &outer4(probe, (OUTER4_SIZE + udp + size) as u32, is_gue))?;
        store_udp(skb, at + OUTER4_SIZE, udp + size, probe)
    } else {
        skb.wrap(OUTER6_SIZE + udp, flow.family, is_gue)?;
        skb.store(at, &outer6(probe, (udp + size) as u16, is_gue))?;
        store_udp(skb, at + OUTER6_SIZE, udp + size, probe)
    }
}

#[inline(always)]
fn outer4(probe: &Probe, total: u32, is_gue: bool) -> [u32; 5] {
    let protocol = if is_gue { PROTOCOL_UDP } else { PROTOCOL_IPIP };
    let first = 0x4500_0000 | total;
    let time = u16::from(TTL) << 8 | u16::from(protocol);
    let (source, destination) = (probe.source.low as u32, probe.backend.low as u32);
    let sum = Sum::default().add(first).add(DONT_FRAGMENT.into()).add(time.into());
    let sum = sum.add(source).add(destination).checksum();
    let third = u32::from(time) << 16 | u32::from(sum);
    [first, DONT_FRAGMENT.into(), third, source, destination].map(u32::to_be)
}

#[inline(always)]
fn outer6(probe: &Probe, size: u16, is_gue: bool) -> [u64; 5] {
    let protocol = if is_gue { PROTOCOL_UDP } else { PROTOCOL_IPV6 };
    let sizes = u32::from(size) << 16 | u32::from(protocol) << 8 | u32::from(TTL);
    let first = 0x6000_0000 << 32 | u64::from(sizes);
    let (source, backend) = (probe.source, probe.backend);
    [first, source.high, source.low, backend.high, backend.low].map(u64::to_be)
}

/// Without a checksum, which the inner packet has.
#[inline(always)]
fn store_udp(skb: &Skb, at: usize, size: usize, probe: &Probe) -> Option<()> {
    if probe.forward != Forward::Gue as u8 {
        return Some(());
    }
    let ports = u32::from(GUE_SOURCE_PORT) << 16 | u32::from(probe.gue_port);
    skb.store(at, &[ports, (size as u32) << 16].map(u32::to_be))
}
