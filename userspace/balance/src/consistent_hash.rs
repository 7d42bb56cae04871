//! Consistent hashing: backends have points on a ring, and a key goes to the next point after it. With
//! a bound on loads it goes on to the next backend that has room (Mirrokni, Thorup, Zadimoghaddam:
//! Consistent Hashing with Bounded Loads).

use weir_model::AlgorithmName;

use crate::hash::{Draws, mix, of_address};
use crate::{Algorithm, AlgorithmSpec, Backend, Candidates, Member, Setting};

pub(crate) const SPEC: AlgorithmSpec = AlgorithmSpec {
    name: AlgorithmName::ConsistentHash,
    summary: "by the hash of `hash-on`, on a ring: of n targets that change one moves an nth of the \
              requests; with `hash-balance` none gets much more than its share",
    build: |setting| Box::new(ConsistentHash::new(setting)),
};

/// Points of a backend of average weight, at least; at most twice as many.
const POINTS_MIN: u64 = 320;
/// Points of a ring, about.
const RING_MAX: u64 = 1 << 20;

#[derive(Debug)]
struct ConsistentHash {
    /// In the order of their places.
    points: Vec<Point>,
    /// The most open requests of a backend, as a factor of its share.
    balance: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    place: u64,
    index: u32,
}

impl ConsistentHash {
    fn new(setting: &Setting<'_>) -> Self {
        let scale = Scale::of(setting.members);
        let mut points = Vec::new();
        for (index, member) in (0u32..).zip(setting.members) {
            // Where they are follows from the address alone, so that others change nothing.
            let mut places = Draws::new(of_address(member.address), 0);
            let count = scale.points(member.weight);
            points.extend((0..count).map(|_| Point { place: places.next(), index }));
        }
        points.sort_unstable();
        Self { points, balance: setting.hash_balance.map(|percent| f64::from(percent) / 100.0) }
    }

    /// Whether a backend may have one more request. Reactors that ask at the same time are told the same,
    /// so it may have as many more than its bound as there are others of them.
    fn has_room(&self, backend: &Backend, load: Option<f64>) -> bool {
        let Some((balance, load)) = self.balance.zip(load) else { return true };
        // Products that are whole numbers may be a little more here.
        let most = (balance * load * f64::from(backend.weight()) - 1e-6).ceil();
        f64::from(backend.open()) + 1.0 <= most.max(1.0)
    }
}

impl Algorithm for ConsistentHash {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let key = candidates.key();
        let start = self.points.partition_point(|point| point.place < key);
        let (before, after) = self.points.split_at_checked(start)?;
        let (mut last, mut warming, mut full) = (None, None, None);
        for point in after.iter().chain(before) {
            let index = point.index as usize;
            if last.replace(index) == Some(index) || !candidates.is_usable(index) {
                continue;
            }
            // One that only just came up takes the same keys each time, more and more of them.
            if !candidates.takes(index, mix(key ^ u64::from(point.index))) {
                warming.get_or_insert(index);
                continue;
            }
            if self.has_room(candidates.get(index)?, candidates.load) {
                return Some(index);
            }
            full.get_or_insert(index);
        }
        full.or(warming)
    }
}

/// How many points a unit of weight has: a power of two of them, so that a change of one weight does
/// not change the points of all.
struct Scale {
    numerator: u64,
    denominator: u64,
}

impl Scale {
    fn of(members: &[Member]) -> Self {
        let count = members.iter().filter(|member| member.weight > 0).count().max(1) as u64;
        let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        let least = POINTS_MIN.min(RING_MAX / count).max(1);
        let (mut numerator, mut denominator) = (1, 1);
        while total * numerator < least * count * denominator && numerator < RING_MAX {
            numerator *= 2;
        }
        while total * numerator >= 2 * least * count * denominator {
            denominator *= 2;
        }
        Self { numerator, denominator }
    }

    fn points(&self, weight: u32) -> u64 {
        let points = u64::from(weight) * self.numerator / self.denominator;
        if weight > 0 { points.max(1) } else { 0 }
    }
}
