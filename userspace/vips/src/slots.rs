//! A table of slots, in memory that the packet path reads: which slots change hands, and for how long the
//! flows that they had are looked up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_abi::vip::{CLOSED, MOVING, NOWHERE, SLOTS};

/// Longs (u64) of a [`weir_abi::vip::Move`].
pub const MOVE_LONGS: usize = 2;

/// A table. `now` has four slots a long; `moves` has [`MOVE_LONGS`] a slot, and is absent while no slot
/// is moving. Written by one thread, read by every CPU: a slot says that it is moving only after its
/// move was written.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a> {
    /// Backends.
    pub now: &'a [AtomicU64],
    /// What slots that are moving were before.
    pub moves: Option<&'a [AtomicU64]>,
}

/// What a moving slot was, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    before: u32,
    since: u32,
    seen: u32,
}

impl Slots<'_> {
    /// Writes a table that nobody reads yet.
    pub fn fill(self, wanted: &[u16]) {
        for (long, four) in self.now.iter().zip(wanted.chunks(4)) {
            let shifted = four.iter().rev().fold(0, |long, &slot| long << 16 | u64::from(slot));
            long.store(shifted, Ordering::Relaxed);
        }
    }

    /// Whether a change to `wanted` makes slots move, so that [`Slots::moves`] is needed.
    #[must_use]
    pub fn will_move(self, wanted: &[u16], is_gone: &dyn Fn(u16) -> bool) -> bool {
        (0u32..).zip(wanted).any(|(slot, &wanted)| {
            let held = self.get(slot);
            let now = held & !MOVING;
            held & MOVING != 0 || (now != wanted && !is_left(now, is_gone))
        })
    }

    /// Gives slots to the backends of `wanted`; how many slots are moving then. Flows of a backend that
    /// is gone are not waited for. `tick` is the time.
    pub fn change(self, wanted: &[u16], tick: u32, is_gone: &dyn Fn(u16) -> bool) -> usize {
        let mut moving = 0;
        for (slot, &wanted) in (0u32..).zip(wanted) {
            let held = self.get(slot);
            let now = held & !MOVING;
            let before = (held & MOVING != 0).then(|| self.moving(slot)).flatten();
            let before = before.filter(|it| !is_left(it.before(), is_gone));
            let next = match before {
                // Flows that began since are remembered, wherever they are.
                Some(before) => Some(before),
                None if now == wanted || is_left(now, is_gone) => None,
                None => Some(Move { before: now.into(), since: tick, seen: tick }),
            };
            moving += usize::from(next.is_some());
            if let Some(next) = next
                && before.is_none()
            {
                self.set_move(slot, next);
            }
            self.set(slot, if next.is_some() { wanted | MOVING } else { wanted });
        }
        moving
    }

    /// Lets slots settle whose earlier flows have been silent for `idle` ticks, and takes flows that are
    /// not remembered for new ones after as long; how many slots are moving still.
    pub fn settle(self, tick: u32, idle: u32) -> usize {
        let mut moving = 0;
        for slot in 0..SLOTS {
            let held = self.get(slot);
            if held & MOVING == 0 {
                continue;
            }
            let Some(it) = self.moving(slot) else {
                self.set(slot, held & !MOVING);
                continue;
            };
            if tick.wrapping_sub(it.seen) >= idle {
                self.set(slot, held & !MOVING);
                continue;
            }
            moving += 1;
            if tick.wrapping_sub(it.since) >= idle && it.before & CLOSED == 0 {
                self.set_before(slot, it.before | CLOSED, it.since);
            }
        }
        moving
    }

    /// Writes what another table says, moves included, into one that nobody reads yet.
    pub fn copy(self, from: Slots<'_>) {
        for (own, other) in self.now.iter().zip(from.now) {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if let (Some(own), Some(other)) = (self.moves, from.moves) {
            for (own, other) in own.iter().zip(other) {
                own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// Whether every slot has its backend of `wanted`, and none is moving.
    #[must_use]
    pub fn is(self, wanted: &[u16]) -> bool {
        (0u32..).zip(wanted).all(|(slot, &wanted)| self.get(slot) == wanted)
    }

    /// How many slots are moving.
    #[must_use]
    pub fn moving_count(self) -> usize {
        (0..SLOTS).filter(|&slot| self.get(slot) & MOVING != 0).count()
    }

    /// The backends that have slots, with how many; those that only have flows from slots that move have
    /// none.
    #[must_use]
    pub fn shares(self) -> BTreeMap<u16, usize> {
        // By number: a map would cost more than the table.
        let mut counts = vec![0u32; usize::from(MOVING)];
        let mut before = Vec::new();
        for slot in 0..SLOTS {
            let held = self.get(slot);
            if let Some(count) = counts.get_mut(usize::from(held & !MOVING)) {
                *count += 1;
            }
            if held & MOVING != 0
                && let Some(it) = self.moving(slot)
            {
                before.push((it.before(), 0));
            }
        }
        let counts = (0u16..).zip(counts).filter(|(_, count)| *count > 0);
        let mut shares: BTreeMap<u16, usize> = before.into_iter().collect();
        shares.extend(counts.map(|(number, count)| (number, count as usize)));
        shares.remove(&NOWHERE);
        shares
    }

    /// What a slot says, [`MOVING`] included.
    #[must_use]
    pub fn get(self, slot: u32) -> u16 {
        let long =
            self.now.get(slot as usize / 4).map_or(u64::MAX, |it| it.load(Ordering::Relaxed));
        (long >> (slot % 4 * 16)) as u16
    }

    /// The backend that a moving slot had before.
    #[must_use]
    pub fn before(self, slot: u32) -> Option<u16> {
        self.moving(slot).map(Move::before)
    }

    fn set(self, slot: u32, value: u16) {
        let Some(long) = self.now.get(slot as usize / 4) else { return };
        let shift = slot % 4 * 16;
        let held = long.load(Ordering::Relaxed);
        let next = held & !(0xffff << shift) | u64::from(value) << shift;
        if next != held {
            long.store(next, Ordering::Release);
        }
    }

    fn moving(self, slot: u32) -> Option<Move> {
        let [first, second] = self.longs(slot)?;
        let (first, second) = (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed));
        Some(Move { before: first as u32, since: (first >> 32) as u32, seen: second as u32 })
    }

    fn set_move(self, slot: u32, value: Move) {
        self.set_before(slot, value.before, value.since);
        if let Some([_, second]) = self.longs(slot) {
            second.store(value.seen.into(), Ordering::Release);
        }
    }

    fn set_before(self, slot: u32, before: u32, since: u32) {
        if let Some([first, _]) = self.longs(slot) {
            first.store(u64::from(since) << 32 | u64::from(before), Ordering::Release);
        }
    }

    fn longs(&self, slot: u32) -> Option<&[AtomicU64; MOVE_LONGS]> {
        let at = slot as usize * MOVE_LONGS;
        self.moves?.get(at..at + MOVE_LONGS)?.try_into().ok()
    }
}

impl Move {
    fn before(self) -> u16 {
        (self.before & !CLOSED) as u16
    }
}

/// Whether no flow is left to wait for.
fn is_left(backend: u16, is_gone: &dyn Fn(u16) -> bool) -> bool {
    backend == NOWHERE || is_gone(backend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_abi::vip::SLOT_WORDS;

    struct Memory {
        now: Vec<AtomicU64>,
        moves: Vec<AtomicU64>,
    }

    impl Memory {
        fn filled(wanted: &[u16]) -> Self {
            let longs = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
            let memory =
                Self { now: longs(SLOT_WORDS as usize), moves: longs(SLOTS as usize * MOVE_LONGS) };
            memory.slots().fill(wanted);
            memory
        }

        fn slots(&self) -> Slots<'_> {
            Slots { now: &self.now, moves: Some(&self.moves) }
        }
    }

    fn all(backend: u16) -> Vec<u16> {
        vec![backend; SLOTS as usize]
    }

    const NONE_GONE: &dyn Fn(u16) -> bool = &|_| false;

    #[test]
    fn what_does_not_change_is_not_looked_up() {
        let wanted: Vec<u16> = (0..SLOTS).map(|slot| slot as u16 % 7 + 1).collect();
        let memory = Memory::filled(&wanted);
        assert!(memory.slots().is(&wanted));
        assert!(!memory.slots().will_move(&wanted, NONE_GONE));
        assert_eq!(memory.slots().change(&wanted, 5, NONE_GONE), 0);
        assert!(memory.slots().is(&wanted));
        let shares = memory.slots().shares();
        assert_eq!(shares.keys().copied().collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
        assert_eq!(shares.values().sum::<usize>(), SLOTS as usize);
    }

    #[test]
    fn a_slot_that_changes_hands_remembers_who_had_it_first() {
        let memory = Memory::filled(&all(1));
        let mut wanted = all(1);
        wanted[3] = 2;
        assert_eq!(memory.slots().change(&wanted, 10, NONE_GONE), 1);
        assert_eq!((memory.slots().get(3), memory.slots().before(3)), (2 | MOVING, Some(1)));
        assert_eq!((memory.slots().get(2), memory.slots().get(4)), (1, 1));
        wanted[3] = 4;
        assert_eq!(memory.slots().change(&wanted, 20, NONE_GONE), 1);
        assert_eq!((memory.slots().get(3), memory.slots().before(3)), (4 | MOVING, Some(1)));
        // Back again: flows of 2 and 4 are remembered, the others are where they were.
        wanted[3] = 1;
        assert_eq!(memory.slots().change(&wanted, 30, NONE_GONE), 1);
        assert_eq!((memory.slots().get(3), memory.slots().before(3)), (1 | MOVING, Some(1)));
    }

    #[test]
    fn a_slot_settles_when_its_earlier_flows_are_silent() {
        let memory = Memory::filled(&all(1));
        memory.slots().change(&all(2), 100, NONE_GONE);
        assert_eq!(memory.slots().settle(159, 60), SLOTS as usize);
        // A packet of an earlier flow: the program writes when.
        memory.moves[1].store(150, Ordering::Relaxed);
        assert_eq!(memory.slots().settle(160, 60), 1);
        assert_eq!((memory.slots().get(0), memory.slots().get(1)), (2 | MOVING, 2));
        // Whoever is not remembered by now is new.
        assert_eq!(memory.moves[0].load(Ordering::Relaxed) as u32, 1 | CLOSED);
        assert_eq!(memory.slots().before(0), Some(1));
        assert_eq!(memory.slots().settle(210, 60), 0);
        assert!(memory.slots().is(&all(2)));
    }

    #[test]
    fn nobody_waits_for_flows_of_the_dead() {
        let memory = Memory::filled(&all(1));
        assert!(!memory.slots().will_move(&all(2), &|backend| backend == 1));
        assert_eq!(memory.slots().change(&all(2), 1, &|backend| backend == 1), 0);
        assert!(memory.slots().is(&all(2)));
        memory.slots().change(&all(3), 2, NONE_GONE);
        assert_eq!(memory.slots().change(&all(3), 3, &|backend| backend == 2), 0);
        assert!(memory.slots().is(&all(3)));
        let nowhere = Memory::filled(&all(NOWHERE));
        assert_eq!(nowhere.slots().change(&all(3), 3, NONE_GONE), 0);
    }
}
