//! Which backends are used before others: those of a lower priority number, and of those the ones in
//! this host's zone. As in Envoy, a set takes all requests while more than five in seven of its weight
//! are usable; below that the rest spills to the next one. With nobody usable there is nobody: backends
//! that are down are not tried all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::backend::{Siblings, nanos};
use crate::hash::{mix, unit};
use crate::{Algorithm, Backend, Candidates, Choice, Member, Setting, algorithm, health_changes};

/// How much more than its share a backend is trusted to take.
const OVERPROVISIONING: f64 = 1.4;
/// Keeps the draw of a tier apart from those inside of it.
const PURPOSE: u64 = 0x7469_6572;

/// The backends of an upstream in the order of their use. Which part of the requests each tier gets is
/// worked out when health or ejections change, by one of the reactors; the others go on meanwhile.
#[derive(Debug)]
pub(crate) struct Tiers {
    tiers: Vec<Tier>,
    slow_start: Duration,
    hashes: bool,
    /// Counted where loads are bounded.
    siblings: Option<Arc<Siblings>>,
    /// What the parts follow from.
    version: AtomicU64,
    /// When an ejection ends, so that they change: nanoseconds since the process started.
    due: AtomicU64,
    is_updating: AtomicBool,
}

#[derive(Debug)]
struct Tier {
    rank: Rank,
    backends: Vec<Arc<Backend>>,
    algorithm: Box<dyn Algorithm>,
    /// Of draws from 0 to 1, those below it go here or to a tier before.
    bound: Fraction,
    /// Its part of the requests for a unit of its usable weight.
    load: Fraction,
}

/// Lower ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: u8,
    is_far: bool,
}

/// An atomic number.
#[derive(Debug, Default)]
struct Fraction(AtomicU64);

impl Fraction {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl Tiers {
    pub(crate) fn new(
        policy: &weir_model::Upstream,
        zone: Option<&str>,
        backends: &[Arc<Backend>],
        siblings: &Arc<Siblings>,
    ) -> Self {
        let rank = |target: &weir_model::Target| Rank {
            priority: target.priority,
            is_far: zone.is_some_and(|here| target.zone.as_ref().is_some_and(|zone| zone != here)),
        };
        let mut ranks: Vec<_> = policy.targets.iter().map(rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let tier = |this: Rank| {
            let targets = policy.targets.iter().zip(backends);
            let (members, backends) = targets
                .filter(|(target, _)| rank(target) == this)
                .map(|(target, backend)| (member(target), Arc::clone(backend)))
                .unzip::<_, _, Vec<_>, _>();
            let setting = Setting { members: &members, hash_balance: policy.hash_balance };
            let algorithm = algorithm::build(policy.algorithm, &setting);
            let (bound, load) = (Fraction::default(), Fraction::default());
            Tier { rank: this, backends, algorithm, bound, load }
        };
        Self {
            tiers: ranks.into_iter().map(tier).collect(),
            slow_start: policy.slow_start,
            hashes: policy.algorithm.hashes(),
            siblings: policy.hash_balance.map(|_| Arc::clone(siblings)),
            version: AtomicU64::new(u64::MAX),
            due: AtomicU64::new(0),
            is_updating: AtomicBool::new(false),
        }
    }

    /// The backend for a request; `changes` are those of this upstream besides health.
    pub(crate) fn pick(&self, choice: &Choice<'_>, changes: u64) -> Option<&Arc<Backend>> {
        self.update(choice.now, health_changes().wrapping_add(changes));
        let open = self.siblings.as_ref().map(|siblings| f64::from(siblings.open()) + 1.0);
        let pick = |tier: &Tier| {
            let load = open.map(|open| open * tier.load.get()).filter(|load| *load > 0.0);
            let (backends, slow_start) = (tier.backends.as_slice(), self.slow_start);
            tier.algorithm.pick(&Candidates { backends, choice, slow_start, load })
        };
        if let [only] = self.tiers.as_slice() {
            return only.backends.get(pick(only)?);
        }
        let word = if self.hashes { choice.key() } else { choice.random };
        let draw = unit(mix(word ^ PURPOSE));
        let drawn = self.tiers.iter().find(|tier| draw < tier.bound.get());
        // Who cannot be picked in its own tier, as all of it was tried, is replaced from another.
        drawn.into_iter().chain(&self.tiers).find_map(|tier| tier.backends.get(pick(tier)?))
    }

    /// Works out the parts again if they follow from other things than these.
    fn update(&self, now: Duration, version: u64) {
        let is_fresh = self.version.load(Ordering::Relaxed) == version
            && nanos(now) < self.due.load(Ordering::Relaxed);
        if is_fresh || self.is_updating.swap(true, Ordering::Acquire) {
            return;
        }
        let states: Vec<_> = self.tiers.iter().map(|tier| tier.state(now)).collect();
        let mut bound = 0.0;
        for ((tier, part), state) in self.tiers.iter().zip(parts(&states)).zip(&states) {
            bound += part;
            tier.bound.set(bound);
            tier.load.set(if state.usable > 0.0 { part / state.usable } else { 0.0 });
        }
        let backends = || self.tiers.iter().flat_map(|tier| &tier.backends);
        // So that slow starts begin when a backend comes up, not with its first turn.
        backends().for_each(|backend| {
            let _ = backend.ramp(now, self.slow_start);
        });
        let due = backends().filter_map(|backend| backend.ejection.end(now)).min();
        self.due.store(due.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.version.store(version, Ordering::Relaxed);
        self.is_updating.store(false, Ordering::Release);
    }
}

impl Tier {
    fn state(&self, now: Duration) -> State {
        let weight = |backend: &&Arc<Backend>| f64::from(backend.weight());
        let usable = self.backends.iter().filter(|backend| backend.is_usable(now));
        State {
            rank: self.rank,
            usable: usable.map(|backend| weight(&backend)).sum(),
            weight: self.backends.iter().map(|backend| weight(&backend)).sum(),
        }
    }
}

fn member(target: &weir_model::Target) -> Member {
    Member { address: target.address, weight: target.weight.value(), is_down: false }
}

/// What the part of a tier follows from.
#[derive(Clone, Copy, Debug)]
struct State {
    rank: Rank,
    usable: f64,
    weight: f64,
}

/// How much of its requests a set with that usable weight can take.
fn capacity(states: &[State]) -> f64 {
    let weight: f64 = states.iter().map(|state| state.weight).sum();
    let usable: f64 = states.iter().map(|state| state.usable).sum();
    if weight > 0.0 { (OVERPROVISIONING * usable / weight).min(1.0) } else { 0.0 }
}

/// The part of the requests that each tier gets: 1 together, or 0 if nobody is usable.
fn parts(states: &[State]) -> Vec<f64> {
    let levels = || states.chunk_by(|a, b| a.rank.priority == b.rank.priority);
    let total = levels().map(capacity).sum::<f64>().min(1.0);
    let (mut left, mut parts) = (1.0, Vec::with_capacity(states.len()));
    for level in levels() {
        let part = if total > 0.0 { (capacity(level) / total).min(left) } else { 0.0 };
        left -= part;
        match level {
            [near, far] if far.usable > 0.0 => {
                let nearby = part * capacity(&[*near]);
                parts.extend([nearby, part - nearby]);
            }
            [_, _] => parts.extend([part, 0.0]),
            _ => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_spill_to_the_next_tier_where_too_little_is_usable() {
        let near = |priority, usable, weight| State {
            rank: Rank { priority, is_far: false },
            usable,
            weight,
        };
        let far = |priority, usable, weight| State {
            rank: Rank { priority, is_far: true },
            usable,
            weight,
        };
        for (states, expected) in [
            (vec![near(0, 10.0, 10.0), near(1, 10.0, 10.0)], vec![100, 0]),
            (vec![near(0, 8.0, 10.0), near(1, 10.0, 10.0)], vec![100, 0]),
            // The table of Envoy's documentation.
            (vec![near(0, 7.1, 10.0), near(1, 10.0, 10.0)], vec![99, 1]),
            (vec![near(0, 5.0, 10.0), near(1, 10.0, 10.0)], vec![70, 30]),
            (vec![near(0, 2.5, 10.0), near(1, 10.0, 10.0)], vec![35, 65]),
            (vec![near(0, 2.5, 10.0), near(1, 2.5, 10.0)], vec![50, 50]),
            (vec![near(0, 0.0, 10.0), near(1, 1.0, 10.0)], vec![0, 100]),
            (vec![near(0, 0.0, 10.0), near(5, 0.0, 10.0)], vec![0, 0]),
            (vec![near(0, 5.0, 10.0), near(1, 2.0, 10.0), near(2, 9.0, 9.0)], vec![70, 28, 2]),
            // This zone and others.
            (vec![near(0, 1.0, 1.0), far(0, 9.0, 9.0)], vec![100, 0]),
            (vec![near(0, 2.0, 4.0), far(0, 9.0, 9.0)], vec![70, 30]),
            (vec![near(0, 0.0, 4.0), far(0, 9.0, 9.0)], vec![0, 100]),
            (vec![near(0, 2.0, 4.0), far(0, 0.0, 2.0)], vec![100, 0]),
            (vec![far(0, 1.0, 2.0), near(1, 1.0, 1.0)], vec![70, 30]),
            (vec![near(0, 2.0, 4.0), far(0, 3.0, 6.0), near(1, 1.0, 1.0)], vec![49, 21, 30]),
        ] {
            let found: Vec<_> =
                parts(&states).iter().map(|part| (part * 100.0).round() as i64).collect();
            assert_eq!(found, expected, "{states:?}");
        }
    }
}
