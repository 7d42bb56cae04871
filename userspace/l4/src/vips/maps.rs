//! The kernel's maps of layer 4.

use std::collections::HashMap as StdHashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

use aya::maps::{Array, ArrayOfMaps, HashMap, IterableMap, Map, MapData, PerCpuArray};
use aya::{Ebpf, Pod};
use weir_abi::Address;
use weir_abi::guard::Counter;
use weir_abi::probe::Probe;
use weir_abi::vip::{
    BACKENDS_MAX, BackendCounter, BackendEntry, DIRECTORY, Entry, FILTER_WORDS, FlowKey, FlowValue,
    LAYOUT, SLOT_WORDS, SLOTS, ServerKey, VipCounter,
};
use weir_vips::{MOVE_LONGS, Slots};

use crate::mapped::Mapped;
use crate::tables::missing;
use crate::{Error, batch};

const MMAPABLE: u32 = 1 << 10;

// Words of `weir_abi::vip::State`.
const STATE_LAYOUT: u32 = 0;
const STATE_HAS_NAT: u32 = 1;
const STATE_GUE_PORT: u32 = 2;
const STATE_FILTER: usize = 4;
const STATE_WORDS: usize = STATE_FILTER + 2 * FILTER_WORDS;
/// Words of a [`BackendEntry`].
const BACKEND_WORDS: usize = size_of::<BackendEntry>() / 4;

/// Types of the ABI that the kernel hands over.
macro_rules! pod {
    ($($name:ident($type:ty);)*) => {$(
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(crate) struct $name(pub(crate) $type);

        // SAFETY: numbers in a repr(C) struct that leaves no gap: no padding, and any bytes are a value.
        unsafe impl Pod for $name {}
    )*};
}

pod! {
    AddressValue(Address);
    EntryValue(Entry);
    FlowKeyValue(FlowKey);
    FlowMemory(FlowValue);
    ProbeValue(Probe);
    CounterValue(Counter);
    ServerKeyValue(ServerKey);
    VipCounterValue(VipCounter);
    BackendCounterValue(BackendCounter);
}

type Directory = Array<MapData, EntryValue>;
type Longs = Array<MapData, u64>;
type Moves = Array<MapData, [u64; MOVE_LONGS]>;

/// The maps.
pub(crate) struct Maps {
    state: Mapped,
    backends: Mapped,
    directories: ArrayOfMaps<MapData, Directory>,
    slots: ArrayOfMaps<MapData, Longs>,
    slots_fd: OwnedFd,
    moves: ArrayOfMaps<MapData, Moves>,
    moves_fd: OwnedFd,
    servers: HashMap<MapData, ServerKeyValue, u32>,
    flows: HashMap<MapData, FlowKeyValue, FlowMemory>,
    vip_counters: PerCpuArray<MapData, VipCounterValue>,
    backend_counters: PerCpuArray<MapData, BackendCounterValue>,
}

/// A table of slots in the kernel's memory. It lives as long as the kernel or this process uses it.
pub(crate) struct Table {
    now: Mapped,
    moves: Option<Mapped>,
}

impl Table {
    pub(crate) fn slots(&self) -> Slots<'_> {
        let moves = self.moves.as_ref();
        Slots {
            now: self.now.pairs(0, SLOT_WORDS as usize),
            moves: moves.map(|moves| moves.pairs(0, SLOTS as usize * MOVE_LONGS)),
        }
    }
}

/// A table that the kernel does not know yet, with the map that holds it.
pub(crate) struct FreshTable {
    pub(crate) table: Table,
    map: Longs,
}

impl FreshTable {
    /// Makes one.
    pub(crate) fn create(wanted: &[u16]) -> Result<Self, Error> {
        let attempt = || "make a table of slots".to_owned();
        let map = Longs::create(SLOT_WORDS, MMAPABLE);
        let map = map.map_err(|error| Error::of(attempt(), &error))?;
        let now = Mapped::of(map.map(), 2 * SLOT_WORDS as usize);
        let now = now.map_err(|error| Error::of(attempt(), &error))?;
        let table = Table { now, moves: None };
        table.slots().fill(wanted);
        Ok(Self { table, map })
    }
}

/// A backend, as the packet path knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownBackend {
    pub(crate) address: SocketAddr,
    pub(crate) source: IpAddr,
    pub(crate) spread: u32,
    pub(crate) stamp: u32,
    pub(crate) is_down: bool,
}

impl Maps {
    /// Takes the maps out of the object.
    pub(crate) fn of(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let state: MapData = data(ebpf, "BALANCER")?;
        let backends: MapData = data(ebpf, "BACKENDS")?;
        let mapped = |map: &MapData, words| {
            Mapped::of(map, words)
                .map_err(|error| Error::of("share memory with the kernel", &error))
        };
        let maps = Self {
            state: mapped(&state, STATE_WORDS)?,
            backends: mapped(&backends, BACKENDS_MAX as usize * BACKEND_WORDS)?,
            directories: take(ebpf, "DIRECTORIES")?,
            slots_fd: descriptor(ebpf, "SLOT_TABLES")?,
            slots: take(ebpf, "SLOT_TABLES")?,
            moves_fd: descriptor(ebpf, "MOVE_TABLES")?,
            moves: take(ebpf, "MOVE_TABLES")?,
            servers: take(ebpf, "SERVERS")?,
            flows: take(ebpf, "FLOWS")?,
            vip_counters: take(ebpf, "VIP_COUNTERS")?,
            backend_counters: take(ebpf, "BACKEND_COUNTERS")?,
        };
        maps.state.words().publish(STATE_LAYOUT, LAYOUT);
        Ok(maps)
    }

    pub(crate) fn set_switches(&self, has_nat: bool, gue_port: u16) {
        self.state.words().publish(STATE_GUE_PORT, gue_port.into());
        self.state.words().publish(STATE_HAS_NAT, has_nat.into());
    }

    /// What the directory in force has.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let Ok(directory) = self.directories.get(&0, 0) else { return Vec::new() };
        let words = size_of::<Entry>() / 4;
        let Ok(memory) = Mapped::of(directory.map(), DIRECTORY as usize * words) else {
            return Vec::new();
        };
        let at = |index: usize| {
            let base = (index * words) as u32;
            let word = |at: u32| memory.words().load(base + at);
            let long = |at: u32| u64::from(word(at)) | u64::from(word(at + 1)) << 32;
            let (key, how, vip, table) = (word(4), word(5), word(6), word(7));
            Entry { high: long(0), low: long(2), key, how, vip, table }
        };
        (0..DIRECTORY as usize).map(at).filter(|entry| entry.key >> 24 != 0).collect()
    }

    /// Puts a directory in force. A packet sees the one before or this one, whole.
    pub(crate) fn publish(
        &mut self,
        directory: &[Entry],
        filter: &[u64; FILTER_WORDS],
    ) -> Result<(), Error> {
        let attempt = |error: &dyn std::fmt::Display| Error::Kernel {
            attempt: "put the VIPs in force".to_owned(),
            cause: error.to_string(),
        };
        let map = Directory::create(DIRECTORY, MMAPABLE).map_err(|error| attempt(&error))?;
        let words = size_of::<Entry>() / 4;
        let memory = Mapped::of(map.map(), DIRECTORY as usize * words).map_err(|e| attempt(&e))?;
        for (index, entry) in (0u32..).zip(directory).filter(|(_, entry)| entry.key != 0) {
            let halves = |long: u64| [long as u32, (long >> 32) as u32];
            let ([a, b], [c, d]) = (halves(entry.high), halves(entry.low));
            let all = [a, b, c, d, entry.key, entry.how, entry.vip, entry.table];
            for (at, word) in (0u32..).zip(all) {
                memory.words().store(index * words as u32 + at, word);
            }
        }
        let bits = self.state.pairs(STATE_FILTER, FILTER_WORDS);
        for (bits, more) in bits.iter().zip(filter) {
            bits.fetch_or(*more, std::sync::atomic::Ordering::Release);
        }
        self.directories.set(0, &map, 0).map_err(|error| attempt(&error))?;
        // Now nobody looks into the one before.
        for (bits, exact) in bits.iter().zip(filter) {
            bits.store(*exact, std::sync::atomic::Ordering::Release);
        }
        Ok(())
    }

    /// A table that another process left.
    pub(crate) fn open(&self, number: u16) -> Option<Table> {
        let now = self.slots.get(&number.into(), 0).ok()?;
        let now = Mapped::of(now.map(), 2 * SLOT_WORDS as usize).ok()?;
        let moves = self.moves.get(&number.into(), 0).ok();
        let moves = moves.and_then(|it| Mapped::of(it.map(), 2 * MOVE_LONGS * SLOTS as usize).ok());
        Some(Table { now, moves })
    }

    /// Tells the kernel of tables, each under its number.
    pub(crate) fn install(&self, tables: &[(u16, &FreshTable)]) -> Result<(), Error> {
        let keys: Vec<u32> = tables.iter().map(|(number, _)| u32::from(*number)).collect();
        let descriptors: Vec<u32> =
            tables.iter().map(|(_, it)| it.map.map().fd().as_fd().as_raw_fd() as u32).collect();
        batch::update(self.slots_fd.as_fd(), &keys, &descriptors)
            .map_err(|error| Error::of("install tables of slots", &error))
    }

    /// Gives a table the memory that moving slots need.
    pub(crate) fn add_moves(&mut self, number: u16, table: &mut Table) -> Result<(), Error> {
        let attempt = || "make a table of moving slots".to_owned();
        let map = Moves::create(SLOTS, MMAPABLE);
        let map = map.map_err(|error| Error::of(attempt(), &error))?;
        let memory = Mapped::of(map.map(), 2 * MOVE_LONGS * SLOTS as usize)
            .map_err(|error| Error::of(attempt(), &error))?;
        self.moves.set(number.into(), &map, 0).map_err(|error| Error::of(attempt(), &error))?;
        table.moves = Some(memory);
        Ok(())
    }

    /// Takes it back, when no slot is moving.
    pub(crate) fn remove_moves(&self, number: u16, table: &mut Table) {
        table.moves = None;
        // One that is not there needs not to be removed.
        let _ = batch::delete(self.moves_fd.as_fd(), &u32::from(number));
    }

    pub(crate) fn remove_table(&self, number: u16) {
        let _ = batch::delete(self.slots_fd.as_fd(), &u32::from(number));
        let _ = batch::delete(self.moves_fd.as_fd(), &u32::from(number));
    }

    pub(crate) fn backend(&self, number: u16) -> Option<KnownBackend> {
        let base = u32::from(number) * BACKEND_WORDS as u32;
        let word = |at: u32| self.backends.words().load(base + at);
        let long = |at: u32| u64::from(word(at)) | u64::from(word(at + 1)) << 32;
        let last = word(10);
        let family = (last >> 16) as u8;
        (family != 0).then(|| KnownBackend {
            address: SocketAddr::new(ip(long(0), long(2)), last as u16),
            source: ip(long(4), long(6)),
            spread: word(8),
            stamp: word(9),
            is_down: (last >> 24) != 0,
        })
    }

    /// Writes a backend; no slot may have its number, unless it is only marked down or up.
    pub(crate) fn set_backend(&self, number: u16, backend: &KnownBackend) {
        let base = u32::from(number) * BACKEND_WORDS as u32;
        let (address, source) = (address(backend.address.ip()), address(backend.source));
        let halves = |long: u64| [long as u32, (long >> 32) as u32];
        let longs = [address.high, address.low, source.high, source.low];
        let family = if backend.address.is_ipv4() { 4 } else { 6 };
        let last =
            u32::from(backend.address.port()) | family << 16 | u32::from(backend.is_down) << 24;
        let words = longs.into_iter().flat_map(halves).chain([backend.spread, backend.stamp]);
        for (at, word) in (0u32..).zip(words) {
            self.backends.words().store(base + at, word);
        }
        self.backends.words().publish(base + 10, last);
    }

    pub(crate) fn forget_backend(&self, number: u16) {
        self.backends.words().publish(u32::from(number) * BACKEND_WORDS as u32 + 10, 0);
    }

    /// The server ids that the packet path knows.
    pub(crate) fn servers(&self) -> StdHashMap<ServerKey, u32> {
        self.servers.iter().flatten().map(|(key, backend)| (key.0, backend)).collect()
    }

    pub(crate) fn set_server(&mut self, key: ServerKey, backend: u16) -> Result<(), Error> {
        self.servers
            .insert(ServerKeyValue(key), u32::from(backend), 0)
            .map_err(|error| Error::of(format!("note the server id {}", key.id), &error))
    }

    pub(crate) fn remove_server(&mut self, key: ServerKey) {
        let _ = self.servers.remove(&ServerKeyValue(key));
    }

    /// Where a flow is remembered.
    pub(crate) fn flow(&self, key: FlowKey) -> Option<FlowValue> {
        self.flows.get(&FlowKeyValue(key), 0).ok().map(|it| it.0)
    }

    /// How many flows are remembered.
    #[cfg(feature = "measure")]
    pub(crate) fn flow_count(&self) -> usize {
        self.flows.keys().flatten().count()
    }

    pub(crate) fn vip_counter(&self, number: u16) -> VipCounter {
        let values = self.vip_counters.get(&number.into(), 0);
        let mut sum = VipCounter::default();
        for VipCounterValue(value) in values.iter().flat_map(|values| values.iter()) {
            sum.packets += value.packets;
            sum.bytes += value.bytes;
            sum.flows += value.flows;
            sum.moving += value.moving;
            for (sum, drops) in sum.drops.iter_mut().zip(value.drops) {
                *sum += drops;
            }
        }
        sum
    }

    pub(crate) fn backend_counter(&self, number: u16) -> BackendCounter {
        let values = self.backend_counters.get(&number.into(), 0);
        let mut sum = BackendCounter::default();
        for BackendCounterValue(value) in values.iter().flat_map(|values| values.iter()) {
            sum.packets += value.packets;
            sum.bytes += value.bytes;
            sum.flows += value.flows;
            sum.moving += value.moving;
        }
        sum
    }

    /// Counts a VIP whose number was another's from zero.
    pub(crate) fn reset_vip(&mut self, number: u16) {
        reset(&mut self.vip_counters, number, VipCounterValue(VipCounter::default()));
    }

    /// The same for a backend.
    pub(crate) fn reset_backend(&mut self, number: u16) {
        reset(&mut self.backend_counters, number, BackendCounterValue(BackendCounter::default()));
    }
}

fn reset<V: Pod>(map: &mut PerCpuArray<MapData, V>, number: u16, zero: V) {
    static CPUS: OnceLock<usize> = OnceLock::new();
    let cpus = *CPUS.get_or_init(|| aya::util::nr_cpus().unwrap_or(0));
    let zeros = aya::maps::PerCpuValues::try_from(vec![zero; cpus]);
    // Counters that go on from another's are a blemish, no more.
    let _: Result<(), io::Error> = zeros.and_then(|zeros| {
        map.set(number.into(), zeros, 0).map_err(|error| io::Error::other(error.to_string()))
    });
}

/// An address as the packet path knows it.
pub(crate) fn address(ip: IpAddr) -> Address {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    Address { high: (bits >> 64) as u64, low: bits as u64 }
}

/// The same back.
pub(crate) fn ip(high: u64, low: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))).to_canonical()
}

/// Takes a map out of the object.
pub(crate) fn take<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> Result<T, Error> {
    let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
    map.try_into().map_err(|_| missing(name))
}

/// Another descriptor of a map of maps: aya has no call for all that is needed.
fn descriptor(ebpf: &Ebpf, name: &str) -> Result<OwnedFd, Error> {
    let Some(Map::ArrayOfMaps(map)) = ebpf.map(name) else { return Err(missing(name)) };
    let descriptor = map.fd().as_fd().try_clone_to_owned();
    descriptor.map_err(|error| Error::of(format!("open the map {name}"), &error))
}

/// Takes an array out of the object, to be shared as memory.
pub(crate) fn data(ebpf: &mut Ebpf, name: &str) -> Result<MapData, Error> {
    match ebpf.take_map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => Err(missing(name)),
    }
}
