//! The rules of VIPs, said plainly.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use weir_abi::vip::{SLOTS, flow_hash, slot_of, source_hash};
use weir_abi::{Address, Flow, Shape, wire};
use weir_balance::{Member, maglev};
use weir_l4::Wanted;
use weir_model::{Forward, HashBy, Vip};

use super::rewrite::{self, Sent};

/// An answer: the reason, and what comes out.
type Answer = (&'static str, Vec<u8>);
/// Sender, receiver, ports, protocol.
type Key = (IpAddr, IpAddr, u16, u16, u8);

#[derive(Default)]
pub(super) struct Model {
    vips: Vec<Vip>,
    /// By upstream.
    tables: Vec<Vec<Slot>>,
    /// By upstream: backends with a slot, or flows from one.
    used: Vec<BTreeSet<SocketAddr>>,
    /// Backends that are known: whether each is down, and which time it is known.
    backends: HashMap<SocketAddr, (bool, usize)>,
    flows: HashMap<Key, Remembered>,
    fragments: HashMap<(IpAddr, IpAddr, u32, u8), First>,
    answers: HashMap<Key, (SocketAddr, SocketAddr)>,
    epoch: usize,
    times: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    now: Option<SocketAddr>,
    moving: Option<(SocketAddr, usize)>,
}

#[derive(Clone, Copy)]
struct Remembered {
    backend: SocketAddr,
    time: usize,
    epoch: usize,
}

#[derive(Clone)]
struct First {
    vip: Option<Vip>,
    address: SocketAddr,
    backend: SocketAddr,
    time: usize,
    hash: u32,
}

impl Model {
    /// Other targets.
    pub(super) fn change(&mut self, wanted: &Wanted) {
        self.epoch += 1;
        self.vips.clone_from(&wanted.vips);
        for member in wanted.pools.iter().flat_map(|pool| &pool.members) {
            self.times += 1;
            let times = self.times;
            let known = self.backends.entry(member.address).or_insert((false, times));
            known.0 = !member.is_up;
        }
        for (index, pool) in wanted.pools.iter().enumerate() {
            let members: Vec<_> = pool
                .members
                .iter()
                .map(|it| Member { address: it.address, weight: it.weight, is_down: !it.is_up })
                .collect();
            let table = maglev(&members, SLOTS);
            let wanted = |slot: usize| Some(members[usize::from(table.as_ref()?[slot])].address);
            if self.tables.len() <= index {
                let slot = |slot| Slot { now: wanted(slot), moving: None };
                self.tables.push((0..SLOTS as usize).map(slot).collect());
                continue;
            }
            for (number, slot) in self.tables[index].iter_mut().enumerate() {
                let next = wanted(number);
                let is_gone =
                    |backend: SocketAddr| self.backends.get(&backend).is_none_or(|it| it.0);
                slot.moving = match (slot.moving.filter(|it| !is_gone(it.0)), slot.now) {
                    (Some(moving), _) => Some(moving),
                    (None, Some(now)) if Some(now) != next && !is_gone(now) => {
                        Some((now, self.epoch))
                    }
                    _ => None,
                };
                slot.now = next;
            }
        }
        let backends = |slot: &Slot| slot.now.into_iter().chain(slot.moving.map(|it| it.0));
        self.used =
            self.tables.iter().map(|table| table.iter().flat_map(backends).collect()).collect();
        let (used, pools) = (&self.used, &wanted.pools);
        self.backends.retain(|backend, _| {
            used.iter().any(|used| used.contains(backend))
                || pools.iter().flat_map(|pool| &pool.members).any(|it| it.address == *backend)
        });
    }

    /// Some backend, for packets from one.
    pub(super) fn any_backend(&self, is_v6: bool, number: usize) -> Option<IpAddr> {
        let mut all: Vec<_> =
            self.backends.keys().map(SocketAddr::ip).filter(|ip| ip.is_ipv6() == is_v6).collect();
        all.sort_unstable();
        (!all.is_empty()).then(|| all[number % all.len()])
    }

    /// What becomes of a packet.
    pub(super) fn run(&mut self, packet: &[u8]) -> Answer {
        let flow = match wire::flow(&packet) {
            Ok(flow) => flow,
            Err(verdict) => return (verdict.reason(), packet.to_vec()),
        };
        let passed = if flow.shape == Shape::Unparsed { "unparsed" } else { "clean" };
        let answer = match flow.shape {
            Shape::Unparsed => None,
            Shape::LaterFragment => self.later_fragment(packet, &flow),
            Shape::Other => self.other(packet, &flow),
            Shape::Ports | Shape::FirstFragment => self.ports(packet, &flow),
        };
        answer.unwrap_or_else(|| (passed, packet.to_vec()))
    }

    fn ports(&mut self, packet: &[u8], flow: &Flow) -> Option<Answer> {
        let dropped = |why| Some((why, packet.to_vec()));
        let (source, destination) = (ip(flow.source), ip(flow.destination));
        let Some(vip) = self.vip(destination, flow.destination_port, flow.protocol) else {
            if self.is_nat_backend(destination, flow.destination_port, flow.protocol) {
                return None;
            }
            return self.answer(packet, flow);
        };
        if source == destination {
            return dropped("spoofed");
        }
        let flags = packet.get(usize::from(flow.transport) + 13).copied().unwrap_or(0);
        let is_new = flow.protocol == 6 && flags & 0x12 == 0x02;
        let key = (source, destination, flow.source_port, flow.destination_port, flow.protocol);
        let hash = hash(&vip, key);
        let Some(backend) = self.choose(&vip, key, hash, Some(is_new)) else {
            return dropped("no_backend");
        };
        if flow.shape == Shape::FirstFragment {
            let first = First {
                vip: Some(vip.clone()),
                address: SocketAddr::new(destination, flow.destination_port),
                backend,
                time: self.backends[&backend].1,
                hash,
            };
            self.fragments.insert((source, destination, flow.fragment, flow.protocol), first);
        }
        let sent = Sent { vip: &vip, backend, hash, transport: true };
        let (reason, out) = rewrite::forward(packet, flow, &sent);
        if reason == "nat" {
            let port = if vip.port.is_some() { backend.port() } else { flow.destination_port };
            self.answers.insert(
                (backend.ip(), source, port, flow.source_port, flow.protocol),
                (SocketAddr::new(destination, flow.destination_port), backend),
            );
        }
        Some((reason, out))
    }

    /// Where a flow goes; `is_new` is absent for a packet that only speaks of it.
    fn choose(
        &mut self,
        vip: &Vip,
        key: Key,
        hash: u32,
        is_new: Option<bool>,
    ) -> Option<SocketAddr> {
        let slot = self.tables[vip.upstream][slot_of(hash) as usize];
        let Some((before, since)) = slot.moving else { return slot.now };
        let known = self.flows.get(&key).copied().filter(|it| {
            it.epoch >= since
                && self
                    .backends
                    .get(&it.backend)
                    .is_some_and(|known| !known.0 && known.1 == it.time)
        });
        let chosen = match (is_new, known) {
            (Some(true), _) => slot.now,
            (_, Some(known)) => Some(known.backend),
            (_, None) => Some(before),
        };
        if let (Some(_), Some(backend)) = (is_new, chosen) {
            let time = self.backends.get(&backend).map_or(0, |it| it.1);
            self.flows.insert(key, Remembered { backend, time, epoch: self.epoch });
        } else if is_new.is_some() {
            self.flows.remove(&key);
        }
        chosen
    }

    fn later_fragment(&mut self, packet: &[u8], flow: &Flow) -> Option<Answer> {
        let (source, destination) = (ip(flow.source), ip(flow.destination));
        let first =
            self.fragments.get(&(source, destination, flow.fragment, flow.protocol)).cloned();
        let first = first
            .filter(|it| self.backends.get(&it.backend).is_some_and(|known| known.1 == it.time));
        let Some(first) = first else {
            let is_vip = self.vips.iter().any(|vip| vip.address == destination);
            return is_vip.then(|| ("orphan_fragment", packet.to_vec())).or(None);
        };
        match &first.vip {
            Some(vip) => {
                let sent = Sent { vip, backend: first.backend, hash: first.hash, transport: false };
                Some(rewrite::forward(packet, flow, &sent))
            }
            None => Some(rewrite::answer(packet, flow, SocketAddr::new(first.address.ip(), 0))),
        }
    }

    fn other(&mut self, packet: &[u8], flow: &Flow) -> Option<Answer> {
        let (is_v6, at) = (flow.family == 6, usize::from(flow.transport));
        let destination = ip(flow.destination);
        let is_icmp = flow.protocol == if is_v6 { 58 } else { 1 };
        if !is_icmp || flow.fragment != 0 || self.vips.iter().all(|vip| vip.address != destination)
        {
            return None;
        }
        let malformed = || Some(("malformed", packet.to_vec()));
        if packet.len() < at + 8 {
            return malformed();
        }
        let kind = packet[at];
        if kind == if is_v6 { 128 } else { 8 } {
            return Some(("pong", rewrite::pong(packet, flow)));
        }
        let is_error = if is_v6 { (1..=4).contains(&kind) } else { [3, 11, 12].contains(&kind) };
        if !is_error {
            return None;
        }
        let Some((told, client, protocol, port, client_port)) = quoted(packet, at + 8, is_v6)
        else {
            return malformed();
        };
        if told != destination {
            return Some(("icmp_mismatch", packet.to_vec()));
        }
        if protocol != 6 && protocol != 17 {
            return None;
        }
        let Some(vip) = self.vip(told, port, protocol) else {
            return Some(("icmp_mismatch", packet.to_vec()));
        };
        let key = (client, told, client_port, port, protocol);
        let hash = hash(&vip, key);
        let Some(backend) = self.choose(&vip, key, hash, None) else {
            return Some(("no_backend", packet.to_vec()));
        };
        Some(rewrite::forward(packet, flow, &Sent { vip: &vip, backend, hash, transport: true }))
    }

    /// A packet from a backend behind NAT.
    fn answer(&mut self, packet: &[u8], flow: &Flow) -> Option<Answer> {
        let (source, destination) = (ip(flow.source), ip(flow.destination));
        if !self.is_nat_backend(source, flow.source_port, flow.protocol)
            || self.vip(source, flow.source_port, flow.protocol).is_some()
        {
            return None;
        }
        let key = (source, destination, flow.source_port, flow.destination_port, flow.protocol);
        let (vip, backend) = *self.answers.get(&key)?;
        let (reason, out) = rewrite::answer(packet, flow, vip);
        if flow.shape == Shape::FirstFragment && reason == "nat_return" {
            let time = self.backends.get(&backend).map_or(0, |it| it.1);
            let first = First { vip: None, address: vip, backend, time, hash: 0 };
            self.fragments.insert((source, destination, flow.fragment, flow.protocol), first);
        }
        Some((reason, out))
    }

    fn is_nat_backend(&self, ip: IpAddr, port: u16, protocol: u8) -> bool {
        self.vips
            .iter()
            .filter(|vip| vip.forward == Forward::Nat && vip.protocol.number() == protocol)
            .any(|vip| {
                self.used[vip.upstream]
                    .iter()
                    .any(|it| it.ip() == ip && (vip.port.is_none() || it.port() == port))
            })
    }

    fn vip(&self, ip: IpAddr, port: u16, protocol: u8) -> Option<Vip> {
        let of =
            self.vips.iter().filter(|vip| vip.address == ip && vip.protocol.number() == protocol);
        let of: Vec<_> = of.collect();
        let exact = of.iter().find(|vip| vip.port.is_some_and(|own| own.get() == port));
        exact.or_else(|| of.iter().find(|vip| vip.port.is_none())).map(|vip| (*vip).clone())
    }
}

fn hash(vip: &Vip, (source, destination, source_port, port, protocol): Key) -> u32 {
    let ports = u32::from(source_port) << 16 | u32::from(port);
    match vip.hash {
        HashBy::Source => source_hash(address(source)),
        _ => flow_hash(address(source), address(destination), ports, protocol),
    }
}

/// Who is said to have sent what to whom.
fn quoted(packet: &[u8], at: usize, is_v6: bool) -> Option<(IpAddr, IpAddr, u8, u16, u16)> {
    let (source, destination, protocol, ports) = if is_v6 {
        let header = packet.get(at..at + 40)?;
        let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&header[at..at + 16]).unwrap());
        (ip(8), ip(24), header[6], at + 40)
    } else {
        let header = packet.get(at..at + 20)?;
        let ip = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&header[at..at + 4]).unwrap());
        (ip(12), ip(16), header[9], at + usize::from(header[0] & 15) * 4)
    };
    let ports = packet.get(ports..ports + 4)?;
    let number = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((source.to_canonical(), destination.to_canonical(), protocol, number(0), number(2)))
}

pub(super) fn ip(address: Address) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(address.high) << 64 | u128::from(address.low)))
        .to_canonical()
}

fn address(ip: IpAddr) -> Address {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    Address { high: (bits >> 64) as u64, low: bits as u64 }
}
