//! Peak EWMA (as in Finagle and Linkerd): of two backends at random, the one that is expected to
//! answer sooner. What is expected follows a peak of its latency at once and forgets it slowly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_model::AlgorithmName;

use crate::hash::Draws;
use crate::weighted::Weighted;
use crate::{Algorithm, AlgorithmSpec, Backend, Candidates};

pub(crate) const SPEC: AlgorithmSpec = AlgorithmSpec {
    name: AlgorithmName::PeakEwma,
    summary: "of two at random (of up to four all) the one that is expected to answer sooner, by its \
              latency, its open requests and its weight",
    build: |setting| Box::new(PeakEwma(Weighted::new(&setting.weights()))),
};

/// After so long a latency counts for 1/e.
const DECAY: Duration = Duration::from_secs(10);
/// What a backend is taken to need that has a request and never answered one.
const UNKNOWN: Duration = Duration::from_secs(1);
/// What a request counts that failed, however soon: or whoever refuses at once would get everything.
pub(crate) const FAILED: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct PeakEwma(Weighted);

impl Algorithm for PeakEwma {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let draws = &mut Draws::new(candidates.choice.random, 1);
        let now = candidates.choice.now;
        self.0.cheapest(candidates, draws, |index| {
            let cost = candidates.get(index).map_or(0.0, |backend| cost(backend, now));
            cost / candidates.share(index)
        })
    }
}

/// How long a further request is expected to take. One that never answered gets its first at once, and
/// no second before it did.
fn cost(backend: &Backend, now: Duration) -> f64 {
    let open = f64::from(backend.open());
    match backend.latency(now) {
        Some(latency) => latency.as_secs_f64() * (open + 1.0),
        None => UNKNOWN.as_secs_f64() * open,
    }
}

/// A latency with the time it is of, in one word: so no reactor sees the one without the other.
#[derive(Debug, Default)]
pub(crate) struct Latency(AtomicU64);

impl Latency {
    /// What is expected now; `None` if nothing was seen yet.
    pub(crate) fn at(&self, now: Duration) -> Option<Duration> {
        let (micros, stamp) = unpack(self.0.load(Ordering::Relaxed))?;
        Some(Duration::from_secs_f32(micros * decay(stamp, now) / 1e6))
    }

    /// Takes a latency that was seen.
    pub(crate) fn observe(&self, latency: Duration, now: Duration) {
        // More than nothing, which stands for never.
        let seen = (latency.as_secs_f32() * 1e6).max(1.0);
        // The closure always answers, so this cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (micros, stamp) = match unpack(word) {
                None => (seen, stamp(now)),
                Some((micros, since)) => {
                    let left = decay(since, now);
                    let stamp = if left < 1.0 { stamp(now) } else { since };
                    (seen.max(micros * left + seen * (1.0 - left)), stamp)
                }
            };
            Some(u64::from(micros.to_bits()) << 32 | u64::from(stamp))
        });
    }
}

fn unpack(word: u64) -> Option<(f32, u32)> {
    (word != 0).then(|| (f32::from_bits((word >> 32) as u32), word as u32))
}

/// In milliseconds; that it begins again after 49 days does no harm.
fn stamp(now: Duration) -> u32 {
    now.as_millis() as u32
}

/// What is left of a latency of that time.
fn decay(since: u32, now: Duration) -> f32 {
    let elapsed = stamp(now).wrapping_sub(since);
    // Reactors look at their clocks at different times: one may be behind.
    let elapsed = if elapsed > u32::MAX / 2 { 0 } else { elapsed };
    (-(elapsed as f32) / (DECAY.as_millis() as f32)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(latency: &Latency, now: u64) -> u64 {
        let found = latency.at(Duration::from_millis(now)).expect("it answered");
        (found.as_secs_f64() * 1e3).round() as u64
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let at = Duration::from_millis;
        let latency = Latency::default();
        assert_eq!(latency.at(at(0)), None);
        for (seen, now, expected) in [
            (100, 0, 100),
            (100, 5_000, 100),
            (10, 5_000, 100),
            (10, 15_000, 43),
            (1_000, 15_000, 1_000),
            (10, 14_000, 1_000),
            (10, 25_000, 374),
        ] {
            latency.observe(at(seen), at(now));
            assert_eq!(milliseconds(&latency, now), expected, "{seen} ms at {now}");
        }
        assert_eq!(milliseconds(&latency, 35_000), 138);
    }
}
