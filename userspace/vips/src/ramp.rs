//! Weights that change slowly, so that no backend gets or loses all at once. Pure: the time comes in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Steps from one weight to the other: each is a change of the table.
const STEPS: u32 = 10;

/// The weights of one table's members.
#[derive(Clone, Debug, Default)]
pub struct Ramp {
    weights: HashMap<SocketAddr, Weighing>,
    /// Whether, when they were last asked for, some were not yet what they are to be.
    is_under_way: bool,
}

/// A weight on its way.
#[derive(Clone, Copy, Debug)]
struct Weighing {
    from: u32,
    to: u32,
    began: Instant,
    /// Whether the member was up: one that comes up begins with nothing.
    was_up: bool,
}

/// What a member is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// Who.
    pub address: SocketAddr,
    /// Its configured share.
    pub weight: u32,
    /// Whether it is up.
    pub is_up: bool,
}

impl Ramp {
    /// Whether weights are to be asked for again, though nothing else has changed.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// The weights of `aims` now, in their order, and those of members that are not among them any
    /// more but on their way to nothing. Members that were there when the table began have their share at
    /// once.
    pub fn weigh(
        &mut self,
        aims: &[Aim],
        over: Duration,
        now: Instant,
    ) -> (Vec<u32>, Vec<(SocketAddr, u32)>) {
        let is_first = self.weights.is_empty();
        let mut weigh = |aim: &Aim| {
            let fresh = Weighing { from: 0, to: aim.weight, began: now, was_up: aim.is_up };
            let held = self.weights.entry(aim.address).or_insert(if is_first {
                Weighing { from: aim.weight, ..fresh }
            } else {
                fresh
            });
            if aim.is_up && !held.was_up {
                *held = fresh;
            } else if held.to != aim.weight {
                *held = Weighing { from: held.at(over, now), ..fresh };
            }
            held.was_up = aim.is_up;
            held.at(over, now)
        };
        let weights: Vec<u32> = aims.iter().map(&mut weigh).collect();
        self.is_under_way = weights.iter().zip(aims).any(|(weight, aim)| *weight != aim.weight);
        if self.weights.len() == aims.len() {
            return (weights, Vec::new());
        }
        let is_aim = |address: &SocketAddr| aims.iter().any(|aim| aim.address == *address);
        let mut leaving: Vec<_> =
            self.weights.keys().copied().filter(|address| !is_aim(address)).collect();
        leaving.sort_unstable();
        let mut gone = Vec::new();
        for address in leaving {
            let is_up = self.weights.get(&address).is_some_and(|held| held.was_up);
            let weight = weigh_leaving(&mut self.weights, address, over, now);
            if weight == 0 || !is_up {
                self.weights.remove(&address);
            } else {
                gone.push((address, weight));
            }
        }
        self.is_under_way |= !gone.is_empty();
        (weights, gone)
    }
}

fn weigh_leaving(
    weights: &mut HashMap<SocketAddr, Weighing>,
    address: SocketAddr,
    over: Duration,
    now: Instant,
) -> u32 {
    let Some(held) = weights.get_mut(&address) else { return 0 };
    if held.to != 0 {
        *held = Weighing { from: held.at(over, now), to: 0, began: now, ..*held };
    }
    held.at(over, now)
}

impl Weighing {
    fn at(self, over: Duration, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed >= over {
            return self.to;
        }
        // The first step is taken at once, the last one at the end.
        let done = (elapsed.as_nanos() * u128::from(STEPS) / over.as_nanos().max(1)) as u32 + 1;
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        let weight = from + (to - from) * i64::from(done.min(STEPS)) / i64::from(STEPS);
        // On the way up nobody who is to have something has nothing.
        u32::try_from(weight).unwrap_or(0).max(self.to.min(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(port: u16, weight: u32, is_up: bool) -> Aim {
        Aim { address: ([10, 0, 0, 1], port).into(), weight, is_up }
    }

    #[test]
    fn weights_rise_fall_and_end() {
        let (start, over) = (Instant::now(), Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ramp = Ramp::default();
        let none: Vec<(SocketAddr, u32)> = Vec::new();
        assert_eq!(ramp.weigh(&[aim(1, 100, true)], over, at(0)), (vec![100], none.clone()));
        let both = [aim(1, 100, true), aim(2, 50, true)];
        assert_eq!(ramp.weigh(&both, over, at(1)).0, [100, 5]);
        assert_eq!(ramp.weigh(&both, over, at(5)).0, [100, 25]);
        assert_eq!(ramp.weigh(&both, over, at(11)).0, [100, 50]);
        // Drained.
        let drained = [aim(1, 0, true), aim(2, 50, true)];
        assert_eq!(ramp.weigh(&drained, over, at(20)).0, [90, 50]);
        assert!(ramp.is_under_way());
        assert_eq!(ramp.weigh(&drained, over, at(30)).0, [0, 50]);
        assert!(!ramp.is_under_way(), "drained for good");
        // Down and up again; a dead one has no use for a slow end.
        assert_eq!(ramp.weigh(&[aim(2, 50, false)], over, at(40)), (vec![50], none.clone()));
        assert_eq!(ramp.weigh(&[aim(2, 50, true)], over, at(41)).0, [5]);
        // Gone from the configuration.
        let (weights, leaving) = ramp.weigh(&[aim(3, 10, true)], over, at(60));
        assert_eq!((weights, leaving), (vec![1], vec![(aim(2, 0, true).address, 45)]));
        assert!(ramp.is_under_way());
        assert_eq!(ramp.weigh(&[aim(3, 10, true)], over, at(70)), (vec![10], none));
        assert!(!ramp.is_under_way());
    }

    #[test]
    fn without_time_everything_is_at_once() {
        let (now, mut ramp) = (Instant::now(), Ramp::default());
        ramp.weigh(&[aim(1, 100, true)], Duration::ZERO, now);
        let (weights, leaving) = ramp.weigh(&[aim(2, 7, true)], Duration::ZERO, now);
        assert_eq!((weights, leaving), (vec![7], Vec::new()));
    }
}
