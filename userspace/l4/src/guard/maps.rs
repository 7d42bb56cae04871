//! The kernel's maps of the guard.

use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key as Prefix, LpmTrie};
use aya::maps::{MapData, PerCpuArray, RingBuf};
use weir_abi::guard::{
    Counter, GUARDED_MAX, Guard, Key, LAYOUT, LENGTHS, Mode, Place, State, TOTAL,
};
use weir_abi::{Address, Verdict};
use weir_model::Cidr;

use crate::Error;
use crate::mapped::Mapped;
use crate::vips::maps::{CounterValue, address, data, ip, take};

const STATE_WORDS: usize = size_of::<State>() / 4;
const GUARD_WORDS: usize = size_of::<Guard>() / 4;

/// The maps.
pub(crate) struct Maps {
    state: Mapped,
    guards: Mapped,
    counters: PerCpuArray<MapData, CounterValue>,
    tried: PerCpuArray<MapData, u64>,
    allowed: LpmTrie<MapData, [u8; 16], u32>,
    events: RingBuf<MapData>,
}

impl Maps {
    /// Takes the maps out of the object.
    pub(crate) fn of(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let shared = |map: &MapData, words| {
            Mapped::of(map, words)
                .map_err(|error| Error::of("share memory with the kernel", &error))
        };
        let (state, guards) = (data(ebpf, "GUARD_STATE")?, data(ebpf, "GUARDS")?);
        let maps = Self {
            state: shared(&state, STATE_WORDS)?,
            guards: shared(&guards, GUARDED_MAX as usize * GUARD_WORDS)?,
            counters: take(ebpf, "GUARD_COUNTERS")?,
            tried: take(ebpf, "GUARD_TRIED")?,
            allowed: take(ebpf, "GUARD_ALLOWED")?,
            events: take(ebpf, "GUARD_EVENTS")?,
        };
        maps.state.words().publish(0, LAYOUT);
        Ok(maps)
    }

    /// What user space shares, as it is now.
    pub(crate) fn state(&self) -> State {
        let word = |at: usize| self.state.words().load(at as u32);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 1)) << 32;
        State {
            layout: word(0),
            switches: word(1),
            step: word(2),
            mss: [word(3), word(4)],
            window_scale: word(5),
            offers: word(6),
            proven_for: word(7),
            limits: std::array::from_fn(|at| word(8 + at)),
            masks: std::array::from_fn(|at| [long(12 + 4 * at), long(14 + 4 * at)]),
            fragments: word(28),
            tell_after: word(29),
            secret: long(30),
            keys: std::array::from_fn(|at| [long(32 + 4 * at), long(34 + 4 * at)]),
            peaks: [word(40), word(41)],
        }
    }

    /// Writes it, the switches last.
    pub(crate) fn set_state(&self, state: &State) {
        let mut words = vec![0, 0, state.step, state.mss[0], state.mss[1]];
        words.extend([state.window_scale, state.offers, state.proven_for]);
        words.extend(state.limits);
        let longs =
            |words: &mut Vec<u32>, long: u64| words.extend([long as u32, (long >> 32) as u32]);
        state.masks.as_flattened().iter().for_each(|&mask| longs(&mut words, mask));
        words.extend([state.fragments, state.tell_after]);
        longs(&mut words, state.secret);
        state.keys.as_flattened().iter().for_each(|&key| longs(&mut words, key));
        words.extend(state.peaks);
        for (at, word) in (0u32..).zip(words).skip(2) {
            self.state.words().store(at, word);
        }
        self.state.words().publish(1, state.switches);
    }

    /// Writes the step of challenges alone.
    pub(crate) fn set_step(&self, step: u32) {
        self.state.words().publish(2, step);
    }

    /// How a number is guarded.
    pub(crate) fn guard(&self, number: u16) -> Guard {
        let word = |at: u32| self.guards.words().load(u32::from(number) * GUARD_WORDS as u32 + at);
        Guard { mode: word(0), place: word(1), cap: word(2), unused: 0 }
    }

    /// Writes it, the mode last.
    pub(crate) fn set_guard(&self, number: u16, mode: Mode, place: Place, cap: u32) {
        let base = u32::from(number) * GUARD_WORDS as u32;
        self.guards.words().store(base + 1, place as u32);
        self.guards.words().store(base + 2, cap);
        self.guards.words().publish(base, mode as u32);
    }

    /// What was counted for a number.
    pub(crate) fn counter(&self, number: u16) -> Counter {
        self.sum(number.into())
    }

    /// The same of everything that is guarded.
    pub(crate) fn total(&self) -> Counter {
        self.sum(TOTAL)
    }

    fn sum(&self, number: u32) -> Counter {
        let values = self.counters.get(&number, 0);
        let mut sum = Counter::default();
        for CounterValue(value) in values.iter().flat_map(|values| values.iter()) {
            sum.syns += value.syns;
            sum.answered += value.answered;
            sum.proven += value.proven;
            sum.dropped += value.dropped;
        }
        sum
    }

    /// What would have been done, by verdict.
    pub(crate) fn tried(&self) -> Vec<(Verdict, u64)> {
        let count = |verdict: Verdict| {
            let values = self.tried.get(&verdict.index(), 0);
            values.map_or(0, |values| values.iter().sum())
        };
        Verdict::ALL.into_iter().map(|verdict| (verdict, count(verdict))).collect()
    }

    /// Has nothing touch a source, or no more.
    pub(crate) fn allow(&mut self, cidr: Cidr, is_on: bool) -> Result<(), Error> {
        let Address { high, low } = address(cidr.address());
        let bits = u128::from(high) << 64 | u128::from(low);
        let outer = if cidr.address().is_ipv4() { 96 } else { 0 };
        let key = Prefix::new(u32::from(cidr.length()) + outer, bits.to_be_bytes());
        let done = if is_on { self.allowed.insert(&key, 1, 0) } else { self.allowed.remove(&key) };
        done.map_err(|error| Error::of(format!("keep the guard off {cidr}"), &error))
    }

    /// Sources that have stayed over a limit since the last call.
    pub(crate) fn offenders(&mut self) -> Vec<Cidr> {
        let mut found = Vec::new();
        while let Some(item) = self.events.next() {
            found.extend(offender(&item));
        }
        found
    }
}

/// What the program has told: a [`Key`].
fn offender(bytes: &[u8]) -> Option<Cidr> {
    let bytes = bytes.get(..size_of::<Key>())?;
    let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let prefix = ip(long(0)?, long(8)?);
    let kind = u32::from_ne_bytes(bytes.get(16..20)?.try_into().ok()?);
    let (four, six) = *LENGTHS.get(kind as usize)?;
    Cidr::new(prefix, if matches!(prefix, IpAddr::V4(_)) { four } else { six })
}
