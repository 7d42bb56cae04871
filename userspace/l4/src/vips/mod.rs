//! VIPs in force: what is wanted, compared with what the kernel's maps hold, and written there.

pub(crate) mod host;
pub(crate) mod maps;

mod explain;
mod pool;
mod stats;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use weir_abi::vip::{BACKENDS_MAX, Entry, EntryKind, KEEP_PORT, LOCAL, SLOTS, ServerKey, VIPS_MAX};
use weir_model::{Forward, HashBy, Protocol, SynGuard, Tunnel, Vip};
use weir_vips::{Numbers, directory, filter};

use crate::{Error, Guarded, Wanted};
use maps::{KnownBackend, Maps};
use pool::Table;

/// As IP numbers it.
const TCP: u8 = 6;
/// Addresses of listeners that stand in the directory: beside them all VIPs have room.
const LISTENING_MAX: usize = 4_096;
/// Between two questions for the neighbours of backends, seconds.
const WAKE_INTERVAL: u64 = 15;

/// Everything that is in force.
pub(crate) struct Vips {
    pub(crate) maps: Maps,
    tables: HashMap<TableKey, Table>,
    table_numbers: Numbers<TableKey>,
    vip_numbers: Numbers<VipKey>,
    backends: Numbers<SocketAddr>,
    /// Numbers of the members of pools, whether they have a slot or not.
    members: HashSet<u16>,
    /// What the maps say of each number.
    known: HashMap<u16, KnownBackend>,
    servers: HashMap<ServerKey, u32>,
    /// Where this host listens, as far as that stands in the directory.
    listeners: Vec<(String, SocketAddr)>,
    /// The VIPs in force, with the table of each.
    vips: Vec<(Vip, TableKey)>,
    entries: Vec<Entry>,
    /// VIPs that are served by listeners of this host, by name.
    local: HashSet<String>,
    stamp: u32,
    /// What sources were last derived from.
    tunnel: Option<Tunnel>,
    woken: Option<Instant>,
    is_adopted: bool,
}

/// Who has a table of slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TableKey {
    /// VIPs of this upstream whose flows are kept for so many seconds.
    Pool(String, u64),
    /// This VIP alone, by name, because it is or was served here.
    Own(String),
}

/// What tells VIPs apart.
pub(crate) type VipKey = (IpAddr, u16, u8);

impl Vips {
    pub(crate) fn new(maps: Maps) -> Self {
        let number = |most: u32| u16::try_from(most).unwrap_or(u16::MAX);
        let mut vips = Self {
            maps,
            tables: HashMap::new(),
            table_numbers: Numbers::new(0, number(VIPS_MAX)),
            vip_numbers: Numbers::new(0, number(VIPS_MAX)),
            backends: Numbers::new(LOCAL + 1, number(BACKENDS_MAX)),
            members: HashSet::new(),
            known: HashMap::new(),
            servers: HashMap::new(),
            listeners: Vec::new(),
            vips: Vec::new(),
            entries: Vec::new(),
            local: HashSet::new(),
            stamp: 0,
            tunnel: None,
            woken: None,
            is_adopted: false,
        };
        vips.adopt_backends();
        vips
    }

    /// Puts in force what is wanted; what does not change is not touched.
    pub(crate) fn apply(&mut self, wanted: &Wanted, now: Instant) -> Result<(), Error> {
        let listeners = self.listening(wanted);
        let is_nothing = wanted.vips.is_empty() && listeners.is_empty();
        if is_nothing && self.entries.is_empty() && self.is_adopted {
            return Ok(());
        }
        if !self.is_adopted {
            self.adopt(wanted);
        }
        let gue_port = wanted.tunnel.gue_port;
        let has_nat = wanted.vips.iter().any(|vip| vip.forward == Forward::Nat);
        let had_nat = self.vips.iter().any(|(vip, _)| vip.forward == Forward::Nat);
        // On before the directory has the first VIP of NAT, off after it has lost the last one.
        self.maps.set_switches(has_nat || had_nat, gue_port);
        if !wanted.vips.is_empty() {
            host::allow_routes();
        }
        self.local.retain(|name| wanted.vips.iter().any(|vip| vip.name == *name));
        let held: HashMap<VipKey, &TableKey> =
            self.vips.iter().map(|(vip, key)| (vip_key(vip), key)).collect();
        let key = |vip: &Vip| self.key_of(vip, wanted, held.get(&vip_key(vip)).copied());
        let vips: Vec<_> = wanted.vips.iter().map(|vip| (vip.clone(), key(vip))).collect();
        self.balance(&vips, wanted, now)?;
        let entries = self.entries_of(&vips, &listeners)?;
        if entries != self.entries {
            let full = |_| Error::Kernel {
                attempt: "put the VIPs in force".to_owned(),
                cause: "there are too many".to_owned(),
            };
            let table = directory(&entries).map_err(full)?;
            self.maps.publish(&table, &filter(&entries))?;
            self.entries = entries;
        }
        self.vips = vips;
        self.listeners = listeners;
        self.maps.set_switches(has_nat, gue_port);
        self.forget();
        Ok(())
    }

    /// What time brings, once a second: slots settle, neighbours are asked for.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.settle();
        let since = self.woken.map(|woken| now.saturating_duration_since(woken).as_secs());
        if since.is_none_or(|seconds| seconds >= WAKE_INTERVAL) {
            self.woken = Some(now);
            self.known.values().for_each(|backend| host::wake(backend.address.ip()));
        }
    }

    /// The table of a VIP that has `held` now: that of its upstream, or one of its own while it is served
    /// here and until it is like the other again.
    fn key_of(&self, vip: &Vip, wanted: &Wanted, held: Option<&TableKey>) -> TableKey {
        let own = TableKey::Own(vip.name.clone());
        let pool = wanted.pools.get(vip.upstream).map_or("", |pool| &pool.name);
        let shared = TableKey::Pool(pool.to_owned(), vip.idle.as_secs());
        if self.local.contains(&vip.name) {
            return own;
        }
        let Some(held) = held.filter(|key| **key != shared) else {
            return if self.tables.contains_key(&own) { own } else { shared };
        };
        match (self.tables.get(held), self.tables.get(&shared)) {
            // Nobody else's yet: it will be made like the one that the VIP has.
            (Some(_), None) if *held != own => shared,
            (Some(table), there) if !table.is_like(there) => own,
            _ => shared,
        }
    }

    /// The directory's entries.
    fn entries_of(
        &mut self,
        vips: &[(Vip, TableKey)],
        listeners: &[(String, SocketAddr)],
    ) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for (vip, key) in vips {
            let (number, is_new) = self.vip_numbers.give(&vip_key(vip)).ok_or_else(too_many)?;
            if is_new {
                self.maps.reset_vip(number);
            }
            let table = self.table_numbers.of(key).ok_or_else(too_many)?;
            let address = maps::address(vip.address);
            let (port, protocol) = (vip.port.map_or(0, u16::from), vip.protocol.number());
            entries.push(Entry {
                how: how_of(vip),
                vip: number.into(),
                table: table.into(),
                ..Entry::new(address, port, protocol, EntryKind::Vip)
            });
            entries.push(Entry::new(address, 0, 0, EntryKind::Address));
            if vip.forward == Forward::Nat {
                let shares = self.tables.get(key).into_iter().flat_map(|table| table.shares.keys());
                for backend in shares.filter_map(|number| self.known.get(number)) {
                    let port = if vip.port.is_some() { backend.address.port() } else { 0 };
                    let address = maps::address(backend.address.ip());
                    entries.push(Entry::new(address, port, protocol, EntryKind::NatBackend));
                }
            }
        }
        // They stand before VIPs of all ports.
        for (_, listener) in listeners {
            let key = (listener.ip(), listener.port(), TCP);
            let (number, is_new) = self.vip_numbers.give(&key).ok_or_else(too_many)?;
            if is_new {
                self.maps.reset_vip(number);
            }
            let address = maps::address(listener.ip());
            entries.push(Entry {
                vip: number.into(),
                ..Entry::new(address, listener.port(), TCP, EntryKind::Listener)
            });
        }
        let sources = self.known.values().map(|backend| backend.source);
        let sources = sources.filter(|source| !source.is_unspecified());
        entries.extend(
            sources.map(|source| Entry::new(maps::address(source), 0, 0, EntryKind::OwnSource)),
        );
        entries.sort_unstable_by_key(|entry| (entry.high, entry.low, entry.key));
        entries.dedup_by_key(|entry| (entry.high, entry.low, entry.key));
        Ok(entries)
    }

    /// Listeners of this host that the directory is to have: they stand before VIPs of all ports, and can
    /// be guarded.
    fn listening(&self, wanted: &Wanted) -> Vec<(String, SocketAddr)> {
        if wanted.guard.syn == SynGuard::Off && !has_all_ports(wanted) {
            return Vec::new();
        }
        let mut all = listening(wanted);
        let room = (VIPS_MAX as usize).saturating_sub(wanted.vips.len()).min(LISTENING_MAX);
        if all.len() > room {
            if self.listeners.len() != room {
                let count = all.len();
                tracing::warn!("listeners have {count} addresses: {room} of them are guarded");
            }
            all.truncate(room);
        }
        all
    }

    /// What can be guarded: VIPs, and listeners by name.
    pub(crate) fn guarded(&self) -> Vec<Guarded> {
        let number = |key: &VipKey| self.vip_numbers.of(key);
        let vips = self.vips.iter().filter(|(vip, _)| vip.protocol == Protocol::Tcp);
        let mut all: Vec<_> = vips
            .map(|(vip, _)| Guarded {
                name: vip.name.clone(),
                address: vip.to_string(),
                is_local: self.local.contains(&vip.name),
                is_vip: true,
                numbers: number(&vip_key(vip)).into_iter().collect(),
            })
            .collect();
        for (name, address) in &self.listeners {
            let number = number(&(address.ip(), address.port(), TCP));
            match all.iter_mut().find(|it| !it.is_vip && it.name == *name) {
                Some(known) => {
                    known.address += &format!(", {address}");
                    known.numbers.extend(number);
                }
                None => all.push(Guarded {
                    name: name.clone(),
                    address: address.to_string(),
                    is_local: true,
                    is_vip: false,
                    numbers: number.into_iter().collect(),
                }),
            }
        }
        all
    }

    /// Gives back the numbers of what is no more.
    fn forget(&mut self) {
        let (vips, tables, maps) = (&self.vips, &mut self.tables, &self.maps);
        let own = self.listeners.iter().map(|(_, it)| (it.ip(), it.port(), TCP));
        let keys: HashSet<VipKey> = vips.iter().map(|(vip, _)| vip_key(vip)).chain(own).collect();
        self.vip_numbers.retain(|key, _| keys.contains(key));
        let used: HashSet<&TableKey> = vips.iter().map(|(_, key)| key).collect();
        for (key, number) in self.table_numbers.retain(|key, _| used.contains(key)) {
            tables.remove(&key);
            maps.remove_table(number);
        }
        self.forget_backends();
    }

    /// Those that no slot has, and that no member of a pool is: one that is down or drained is still known.
    fn forget_backends(&mut self) {
        let shares = self.tables.values().flat_map(|table| table.shares.keys().copied());
        let used: BTreeSet<u16> = shares.chain(self.members.iter().copied()).collect();
        for (_, number) in self.backends.retain(|_, number| used.contains(&number)) {
            self.known.remove(&number);
            self.maps.forget_backend(number);
        }
        let gone: Vec<_> = self
            .servers
            .iter()
            .filter(|(key, backend)| {
                let is_table = self.table_numbers.iter().any(|(_, it)| u32::from(it) == key.table);
                !is_table || !used.contains(&(**backend as u16))
            })
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.servers.remove(&key);
            self.maps.remove_server(key);
        }
    }

    /// Takes over the backends that another process left in the maps.
    fn adopt_backends(&mut self) {
        for number in 1..BACKENDS_MAX as u16 {
            if let Some(backend) = self.maps.backend(number) {
                self.stamp = self.stamp.max(backend.stamp);
                self.backends.adopt(backend.address, number);
                self.known.insert(number, backend);
            }
        }
    }

    /// The same for VIPs and tables, with flows on their way.
    fn adopt(&mut self, wanted: &Wanted) {
        self.is_adopted = true;
        self.servers = self.maps.servers();
        self.entries = self.maps.entries();
        self.entries.sort_unstable_by_key(|entry| (entry.high, entry.low, entry.key));
        for entry in self.entries.clone() {
            let kind = entry.key >> 24;
            if kind != EntryKind::Vip as u32 && kind != EntryKind::Listener as u32 {
                continue;
            }
            let key = (maps::ip(entry.high, entry.low), entry.key as u16, (entry.key >> 16) as u8);
            self.vip_numbers.adopt(key, entry.vip as u16);
            if kind == EntryKind::Listener as u32 {
                continue;
            }
            let number = entry.table as u16;
            let Some(vip) = wanted.vips.iter().find(|vip| vip_key(vip) == key) else {
                // Nobody's, so that it goes with the directory that speaks of it.
                self.table_numbers.adopt(TableKey::Own(format!("#{number}")), number);
                continue;
            };
            let Some(memory) = self.maps.open(number) else { continue };
            let table = Table::adopted(number, vip.idle, memory);
            if table.shares.get(&LOCAL) == Some(&(SLOTS as usize)) {
                self.local.insert(vip.name.clone());
            }
            let pool = wanted.pools.get(vip.upstream);
            let shared = TableKey::Pool(
                pool.map_or_else(String::new, |pool| pool.name.clone()),
                vip.idle.as_secs(),
            );
            let key = if self.local.contains(&vip.name) || table.shares.contains_key(&LOCAL) {
                TableKey::Own(vip.name.clone())
            } else {
                shared
            };
            if self.tables.contains_key(&key) {
                continue;
            }
            let is_taken = self.tables.values().any(|taken| taken.number() == number);
            if !is_taken {
                self.table_numbers.adopt(key.clone(), number);
                self.tables.insert(key, table);
            } else if let Err(error) = self.copy(&table, key, vip.idle) {
                tracing::warn!("flows of {} are not taken over: {error}", vip.name);
            }
        }
    }

    /// Backends that were down when another process left.
    pub(crate) fn known_down(&self) -> Vec<SocketAddr> {
        self.known.values().filter(|it| it.is_down).map(|it| it.address).collect()
    }

    /// Has a VIP served by listeners of this host, or forwarded again; false if there is none.
    pub(crate) fn set_local(&mut self, name: &str, is_local: bool) -> bool {
        if self.vips.iter().all(|(vip, _)| vip.name != name) {
            return false;
        }
        if is_local {
            self.local.insert(name.to_owned());
        } else {
            self.local.remove(name);
        }
        true
    }
}

/// Whether some VIP has all ports, which listeners of this host stand before.
fn has_all_ports(wanted: &Wanted) -> bool {
    wanted.vips.iter().any(|vip| vip.port.is_none())
}

/// Where this host listens: each address by itself, but for those that are a VIP.
fn listening(wanted: &Wanted) -> Vec<(String, SocketAddr)> {
    let taken: HashSet<VipKey> = wanted.vips.iter().map(vip_key).collect();
    let has_any = wanted.listeners.iter().any(|(_, listener)| listener.ip().is_unspecified());
    let mut own = if has_any { host::addresses() } else { Vec::new() };
    own.extend(wanted.vips.iter().filter(|vip| vip.port.is_none()).map(|vip| vip.address));
    own.sort_unstable();
    own.dedup();
    let mut all = Vec::new();
    for (name, listener) in wanted.listeners.iter().filter(|(_, it)| it.port() != 0) {
        let (ip, port) = (listener.ip(), listener.port());
        let is_any = ip.is_unspecified();
        let covered = own.iter().copied().filter(|it| is_any && (ip.is_ipv6() || it.is_ipv4()));
        let single = (!is_any && !ip.is_loopback()).then_some(ip);
        for ip in covered.chain(single).filter(|&ip| !taken.contains(&(ip, port, TCP))) {
            all.push((name.clone(), SocketAddr::new(ip, port)));
        }
    }
    all
}

pub(crate) fn vip_key(vip: &Vip) -> VipKey {
    (vip.address, vip.port.map_or(0, u16::from), vip.protocol.number())
}

/// The way to backends as the packet path knows it.
pub(crate) fn forward_of(forward: Forward) -> weir_abi::vip::Forward {
    match forward {
        Forward::Ipip => weir_abi::vip::Forward::Ipip,
        Forward::Gue => weir_abi::vip::Forward::Gue,
        Forward::L2 => weir_abi::vip::Forward::L2,
        Forward::Nat => weir_abi::vip::Forward::Nat,
    }
}

/// [`Entry::how`] of a VIP.
fn how_of(vip: &Vip) -> u32 {
    let hash = match vip.hash {
        HashBy::FiveTuple => weir_abi::vip::HashBy::FiveTuple,
        HashBy::Source => weir_abi::vip::HashBy::Source,
        HashBy::QuicCid => weir_abi::vip::HashBy::QuicCid,
    };
    let keep = if vip.port.is_none() { KEEP_PORT } else { 0 };
    forward_of(vip.forward) as u32 | (hash as u32) << 8 | keep
}

fn too_many() -> Error {
    Error::Kernel {
        attempt: "put the VIPs in force".to_owned(),
        cause: format!("more than {VIPS_MAX} VIPs, or {BACKENDS_MAX} backends"),
    }
}
