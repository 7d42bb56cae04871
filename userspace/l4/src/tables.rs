//! The ban tables in the kernel: built beside the one in force, put in its place by one word.

use std::collections::HashMap as StdHashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use aya::maps::{Array, ArrayOfMaps, HashMap, IterableMap, Map, MapData, MapError, PerCpuArray};
use aya::{Ebpf, Pod};
use weir_abi::ban::{
    FILTER_WORDS, Key6, LAYOUT, LENGTHS_MAX, LINE_WORDS, LINES_MIN, Lengths, MARKS, PENDING,
    Pending, SIEVE_WORDS, SLOTS, State,
};
use weir_bans::{
    Banned, Edit, Hits, Marks, Prefix, Registry, Rule, Shared, Table, Words, hits_in, keys6,
    lengths6, mark6,
};
use weir_model::Cidr;

use crate::mapped::Mapped;
use crate::{Error, batch};

const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;
const INNER_MAP: u32 = 1 << 12;

/// Prefixes of IPv6 that find room beside those that a table was built with.
const ROOM6: usize = 4_096;
/// Prefixes changed in place at most; more are a new table.
pub(crate) const EDITS_MAX: usize = 4_096;
/// Memory given up is used again after so long, milliseconds: by then no packet looks at it.
const RECLAIM_AGE_MS: u64 = 1_000;

// Words of `weir_abi::ban::State`.
const STATE_SLOT: u32 = 0;
const STATE_NOW: u32 = 1;
const STATE_DRY_RUN: u32 = 2;
const STATE_WATCHED: u32 = 3;
const STATE_LAYOUT: u32 = 4;
const STATE_PAGES: u32 = 5;
const STATE_GENERATION: u32 = 7;
const STATE_LENGTHS: u32 = 8;
const LENGTHS_WORDS: u32 = 2 + LENGTHS_MAX as u32 / 4;
const STATE_WORDS: u32 = (size_of::<State>() / 4) as u32;

type Line = [u32; LINE_WORDS as usize];
type Arena = Array<MapData, Line>;
/// A prefix as [`Key6`] lays it out.
type Key = [u32; 5];
type Exact = HashMap<MapData, Key, u32>;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PendingValue(Pending);

// SAFETY: u32 and u64 in a repr(C) struct that leaves no gap: no padding, and any bytes are a value.
unsafe impl Pod for PendingValue {}

/// The maps of the ban tables.
pub(crate) struct Tables {
    shared_map: MapData,
    shared: Mapped,
    arenas: ArrayOfMaps<MapData, Arena>,
    prefixes6: ArrayOfMaps<MapData, Exact>,
    pending: PerCpuArray<MapData, PendingValue>,
    in_force: Option<InForce>,
}

/// The table in force.
struct InForce {
    arena: Arena,
    memory: Mapped,
    exact: Exact,
    lengths: Lengths,
    table: Table,
}

/// What a table that was replaced had counted.
pub(crate) type Counted = Vec<(Cidr, Hits)>;

impl Tables {
    /// Takes the maps out of the object.
    pub(crate) fn of(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let shared = take(ebpf, "SHARED")?;
        let tables = Self {
            shared: mapped(&shared, STATE_WORDS + 2 * (MARKS + SIEVE_WORDS + FILTER_WORDS))?,
            shared_map: shared,
            arenas: outer(ebpf, "ARENAS")?,
            prefixes6: outer(ebpf, "PREFIXES6")?,
            pending: outer(ebpf, "PENDING_HITS")?,
            in_force: None,
        };
        tables.shared.words().publish(STATE_LAYOUT, LAYOUT);
        Ok(tables)
    }

    /// Tells the program the time.
    pub(crate) fn tell_time(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.shared.words().store(STATE_NOW, since.as_secs() as u32);
        if let Some(in_force) = &mut self.in_force {
            in_force.table.reclaim(since.as_millis() as u64, RECLAIM_AGE_MS);
        }
    }

    pub(crate) fn set_dry_run(&self, is_on: bool) {
        self.shared.words().publish(STATE_DRY_RUN, u32::from(is_on));
    }

    pub(crate) fn set_watched(&self, is_on: bool) {
        self.shared.words().publish(STATE_WATCHED, u32::from(is_on));
    }

    /// What was counted for a prefix since the table in force was built.
    pub(crate) fn hits(&self, cidr: Cidr) -> Hits {
        let in_force = self.in_force.as_ref();
        in_force.map_or_else(Hits::default, |it| {
            it.table.hits(it.memory.words(), cidr, |record| self.pending_of(record))
        })
    }

    /// Bytes of kernel memory, as the kernel counts them.
    pub(crate) fn memory(&self) -> u64 {
        let own = self.in_force.as_ref();
        let own = own.map_or(0, |it| memory_of(it.arena.map()) + memory_of(it.exact.map()));
        memory_of(&self.shared_map) + own
    }

    /// Lines in use, and lines that there are.
    pub(crate) fn usage(&self) -> (u32, u32) {
        self.in_force.as_ref().map_or((0, 0), |it| it.table.usage())
    }

    /// Builds a table of everything that the registry says and puts it in force; what the one
    /// before had counted, and how many prefixes are banned.
    ///
    /// # Errors
    /// The kernel has no memory for it; the one in force stays.
    pub(crate) fn replace(&mut self, registry: &Registry) -> Result<(Counted, usize), Error> {
        let attempt = |prefixes: usize| format!("build the kernel's table of {prefixes} prefixes");
        let (mut rules4, mut rules6) = (registry.rules4(None), registry.rules6());
        let prefixes = rules4.len() + rules6.len();
        let banned = rules4.iter().filter(|rule| rule.banned != Banned::No).count()
            + rules6.iter().filter(|rule| rule.banned != Banned::No).count();
        let size = Table::plan(&mut rules4, &mut rules6);
        let lines = size.lines();
        let arena = Arena::create(lines, MMAPABLE | INNER_MAP);
        let arena = arena.map_err(|error| Error::of(attempt(prefixes), &error))?;
        let memory = mapped(arena.map(), lines * LINE_WORDS)?;
        let slot = 1 - self.slot();
        let own: [Vec<AtomicU64>; 3] = [MARKS, SIEVE_WORDS, FILTER_WORDS]
            .map(|count| (0..count).map(|_| AtomicU64::new(0)).collect());
        let marks = Marks { v4: &own[0], sieve: &own[1], v6: &own[2] };
        let table = Table::build(memory.words(), marks, &size, &mut rules4, &mut rules6);
        let table = table.map_err(|_| Error::Kernel {
            attempt: attempt(prefixes),
            cause: format!("{lines} lines do not hold it"),
        })?;
        rules6.iter().for_each(|rule| mark6(marks, rule.prefix));
        let room6 = rules6.len() + ROOM6.max(rules6.len() / 16);
        let exact = Exact::create(room6 as u32, NO_PREALLOC);
        let exact = exact.map_err(|error| Error::of(attempt(prefixes), &error))?;
        let (keys, cells): (Vec<_>, Vec<_>) =
            keys6(&rules6).map(|(key, cell)| (words_of(&key), cell)).unzip();
        batch::update(exact.map().fd().as_fd(), &keys, &cells)
            .map_err(|error| Error::of(attempt(prefixes), &error))?;
        let lengths = lengths6(&rules6);
        let next = InForce { arena, memory, exact, lengths, table };
        let counted = self.publish(slot, next, marks);
        Ok((counted.map_err(|error| Error::of(attempt(prefixes), &error))?, banned))
    }

    /// Puts a table in force that is complete in the slot beside. A packet sees the one or the other.
    fn publish(&mut self, slot: u32, next: InForce, marks: Marks<'_>) -> Result<Counted, MapError> {
        self.arenas.set(slot, &next.arena, 0)?;
        self.prefixes6.set(slot, &next.exact, 0)?;
        write_lengths(self.shared.words(), slot, &next.lengths);
        self.shared.words().store(STATE_PAGES + slot, next.table.pages());
        // More marks than needed cost a look-up; fewer would let a banned source through.
        marks_of(&self.shared).join(marks);
        let generation = self.generation();
        self.shared.words().publish(STATE_SLOT, slot);
        self.shared.words().publish(STATE_GENERATION, generation.wrapping_add(1));
        // The kernel answers a change of such a map only when every packet that was on its way has
        // gone: then nobody looks at the other slot.
        self.arenas.set(slot, &next.arena, 0)?;
        marks_of(&self.shared).become_others(marks);
        let before = self.in_force.replace(next);
        let counted = match before {
            Some(before) => hits_in(before.memory.words(), &self.pending(generation)),
            None => self.counted_in(1 - slot, generation),
        };
        let (none, none6) =
            (Arena::create(1, MMAPABLE | INNER_MAP)?, Exact::create(1, NO_PREALLOC)?);
        self.arenas.set(1 - slot, &none, 0)?;
        self.prefixes6.set(1 - slot, &none6, 0)?;
        Ok(counted)
    }

    /// What CPUs have counted for a record and not added to it.
    fn pending_of(&self, record: u32) -> Hits {
        let generation = self.generation();
        let values = self.pending.get(&(record % PENDING), 0);
        let values = values.iter().flat_map(|values| values.iter());
        let own = values.filter(|it| it.0.record == record && it.0.generation == generation);
        own.fold(Hits::default(), |sum, it| sum.and(hits_from(&it.0)))
    }

    /// The same for every record of a generation.
    fn pending(&self, generation: u32) -> StdHashMap<u32, Hits> {
        let mut pending: StdHashMap<u32, Hits> = StdHashMap::new();
        let values = self.pending.iter().flatten();
        for value in values.flat_map(|values| values.iter().map(|it| it.0).collect::<Vec<_>>()) {
            if value.generation == generation && value.packets > 0 {
                let sum = pending.entry(value.record).or_default();
                *sum = sum.and(hits_from(&value));
            }
        }
        pending
    }

    fn generation(&self) -> u32 {
        self.shared.words().load(STATE_GENERATION)
    }

    /// What was counted since the table in force was built.
    pub(crate) fn counted(&self) -> Counted {
        let Some(it) = &self.in_force else { return Vec::new() };
        let pending = self.pending(self.generation());
        hits_in(it.memory.words(), &pending)
    }

    /// What a table that another process left in a slot has counted.
    fn counted_in(&self, slot: u32, generation: u32) -> Counted {
        let Ok(arena) = self.arenas.get(&slot, 0) else { return Vec::new() };
        if arena.len() < LINES_MIN {
            return Vec::new();
        }
        let pending = self.pending(generation);
        let memory = mapped(arena.map(), arena.len() * LINE_WORDS);
        memory.map(|memory| hits_in(memory.words(), &pending)).unwrap_or_default()
    }

    /// Writes what the registry says of these prefixes into the table in force; those marked count
    /// from zero. Nothing is written, and the answer is false, unless there is room for all: then a
    /// table must be built.
    pub(crate) fn edit(
        &mut self,
        registry: &Registry,
        cidrs: &[(Cidr, bool)],
        now: SystemTime,
    ) -> Result<bool, Error> {
        let slot = self.slot();
        let marks = marks_of(&self.shared);
        let Some(in_force) = &mut self.in_force else { return Ok(false) };
        if cidrs.len() > EDITS_MAX {
            return Ok(false);
        }
        let now_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut edits = Vec::with_capacity(cidrs.len());
        let (mut lines, mut keys) = (0, 0);
        for &(cidr, is_new) in cidrs {
            if let Some(prefix) = Prefix::<u32>::of(cidr) {
                let within = Prefix::around(prefix.start, prefix.length.min(24));
                let rules = registry.rules4(Some(within));
                lines += in_force.table.lines_for(in_force.memory.words(), prefix, &rules);
                edits.push(Edit { around: prefix, rules, is_new, now_ms });
            } else {
                keys += 1;
                lines += 1;
            }
        }
        let held6 = keys6_of(registry, cidrs);
        if !in_force.table.has_room(lines) || (keys > 0 && !in_force.has_room6(held6.len())) {
            return Ok(false);
        }
        for edit in edits {
            let shared = Shared { words: in_force.memory.words(), marks };
            if in_force.table.edit(shared, edit).is_err() {
                return Ok(false);
            }
        }
        for (prefix, is_new) in held6 {
            match in_force.edit6(marks, prefix, registry.rule6(prefix), is_new) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => return Err(Error::of(format!("ban {}", prefix.cidr()), &error)),
            }
        }
        write_lengths(self.shared.words(), slot, &in_force.lengths);
        Ok(true)
    }

    fn slot(&self) -> u32 {
        self.shared.words().load(STATE_SLOT) % SLOTS
    }
}

impl InForce {
    /// Whether so many lengths and prefixes more are sure to fit.
    fn has_room6(&self, more: usize) -> bool {
        more < ROOM6 && (self.lengths.count as usize) < LENGTHS_MAX
    }

    /// Writes the rule of a prefix of IPv6; false where there is no room.
    fn edit6(
        &mut self,
        marks: Marks<'_>,
        prefix: Prefix<u128>,
        rule: Option<Rule<u128>>,
        is_new: bool,
    ) -> Result<bool, MapError> {
        let Some(mut rule) = rule else {
            let key = Key6 { length: prefix.length.into(), address: prefix.start.to_be_bytes() };
            // It may never have been there.
            let _ = self.exact.remove(&words_of(&key));
            return Ok(true);
        };
        if rule.banned != Banned::No
            && self.table.record6(self.memory.words(), &mut rule, is_new).is_err()
        {
            return Ok(false);
        }
        let mut rules = [rule];
        for (key, cell) in keys6(&rules) {
            match self.exact.insert(words_of(&key), cell, 0) {
                Ok(()) => {}
                Err(MapError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(libc::E2BIG) =>
                {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        mark6(marks, prefix);
        add_length(&mut self.lengths, prefix.length);
        self.lengths.allowed |= u32::from(rules.iter_mut().any(|rule| rule.allowed));
        Ok(true)
    }
}

/// The prefixes of IPv6 that a change touches: those that changed, and what is protected inside.
fn keys6_of(registry: &Registry, cidrs: &[(Cidr, bool)]) -> Vec<(Prefix<u128>, bool)> {
    let mut keys = Vec::new();
    for &(cidr, is_new) in cidrs {
        let Some(prefix) = Prefix::<u128>::of(cidr) else { continue };
        keys.push((prefix, is_new));
        let inside = registry.protected6(prefix).into_iter().filter(|&inside| inside != prefix);
        keys.extend(inside.map(|inside| (inside, false)));
    }
    keys
}

/// Adds a length in a way in which a reader in the middle misses none.
fn add_length(lengths: &mut Lengths, length: u8) {
    let count = lengths.count as usize;
    let used = lengths.lengths.get(..count).unwrap_or_default();
    if used.contains(&length) || count == LENGTHS_MAX {
        return;
    }
    let place = used.partition_point(|&used| used > length);
    lengths.lengths.copy_within(place..count, place + 1);
    if let Some(slot) = lengths.lengths.get_mut(place) {
        *slot = length;
    }
    lengths.count += 1;
}

/// First the count, then from the end: a reader in the middle may see a length twice or an unused one,
/// but misses none.
fn write_lengths(state: Words<'_>, slot: u32, lengths: &Lengths) {
    let at = STATE_LENGTHS + slot * LENGTHS_WORDS;
    let words = lengths.lengths.chunks_exact(4);
    let words = words.map(|bytes| bytes.try_into().map_or(0, u32::from_ne_bytes));
    state.publish(at, lengths.count);
    state.publish(at + 1, lengths.allowed);
    let words: Vec<u32> = words.collect();
    for (index, word) in (0u32..).zip(words.iter()).collect::<Vec<_>>().into_iter().rev() {
        state.publish(at + 2 + index, *word);
    }
}

fn words_of(key: &Key6) -> Key {
    let mut words = [key.length, 0, 0, 0, 0];
    for (word, bytes) in words.iter_mut().skip(1).zip(key.address.chunks_exact(4)) {
        *word = bytes.try_into().map_or(0, u32::from_ne_bytes);
    }
    words
}

fn hits_from(pending: &Pending) -> Hits {
    Hits { packets: pending.packets, bytes: pending.bytes, last: pending.seen }
}

fn marks_of(shared: &Mapped) -> Marks<'_> {
    let (v4, sieve, v6) = (MARKS as usize, SIEVE_WORDS as usize, FILTER_WORDS as usize);
    let from = STATE_WORDS as usize;
    Marks {
        v4: shared.pairs(from, v4),
        sieve: shared.pairs(from + 2 * v4, sieve),
        v6: shared.pairs(from + 2 * (v4 + sieve), v6),
    }
}

/// The layout that a map of switches is written in; `None` if it cannot be read.
pub(crate) fn layout_of(switches: &MapData, name: &str) -> Option<u32> {
    let at = if name == "SHARED" { STATE_LAYOUT } else { 0 };
    let switches = mapped(switches, STATE_WORDS).ok()?;
    Some(switches.words().load(at))
}

fn mapped(map: &MapData, words: u32) -> Result<Mapped, Error> {
    Mapped::of(map, words as usize)
        .map_err(|error| Error::of("share memory with the kernel", &error))
}

/// Bytes that the kernel says a map costs.
fn memory_of(map: &MapData) -> u64 {
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    bytes.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<MapData, Error> {
    match ebpf.take_map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => Err(missing(name)),
    }
}

fn outer<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> Result<T, Error> {
    let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
    map.try_into().map_err(|_| missing(name))
}

pub(crate) fn missing(name: &str) -> Error {
    let cause = format!("the embedded object has no `{name}`");
    Error::Kernel { attempt: "load the XDP program".to_owned(), cause }
}
