//! What a reactor counts: written by it alone, read by the admin side.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::refusal::Refusal;

/// A number with one writer, so that counting needs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only by the reactor that owns it.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Says how many there are; only by the reactor that owns it.
    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of the duration histogram, microseconds.
pub const DURATION_BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// What one reactor has done since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open now.
    pub open: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Requests whose head was read, answered by a backend or refused.
    pub requests: Counter,
    /// Answers of backends that were passed on, by hundreds of their status: 1xx to 5xx.
    pub responses: [Counter; 5],
    /// Requests that we answered ourselves, by [`Refusal::index`].
    pub refusals: [Counter; Refusal::COUNT],
    /// Requests that a route answers: redirects and fixed answers.
    pub own: Counter,
    /// Exchanges that were cut after the answer had begun.
    pub cut: Counter,
    /// Requests that were sent to a second backend.
    pub retries: Counter,
    /// Requests that would have been sent to a second backend, had the budget allowed it.
    pub retries_over_budget: Counter,
    /// Requests that were sent to a second backend before the first had failed.
    pub hedges: Counter,
    /// Connections that were passed on as they came.
    pub relayed: Counter,
    /// Copies of requests that were sent.
    pub mirrored: Counter,
    /// Requests of which no copy was sent although one was due.
    pub not_mirrored: Counter,
    /// Requests by duration; the last is for those above every bound.
    pub durations: [Counter; DURATION_BOUNDS_US.len() + 1],
    /// Sum of the durations, microseconds.
    pub duration_sum_us: Counter,
}

impl Counters {
    pub(crate) fn refused(&self, refusal: Refusal) {
        if let Some(counter) = self.refusals.get(refusal.index()) {
            counter.add(1);
        }
    }

    pub(crate) fn responded(&self, status: u16) {
        if let Some(counter) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.add(1);
        }
    }

    pub(crate) fn took(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = DURATION_BOUNDS_US.iter().take_while(|&&bound| micros > bound).count();
        if let Some(counter) = self.durations.get(bucket) {
            counter.add(1);
        }
        self.duration_sum_us.add(micros);
    }
}
