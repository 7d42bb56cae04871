//! Ejection: a backend that answers badly several times in a row is left out for a time, which grows
//! each time. Pure: outcomes and the time in, ejections out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use weir_model::PassiveCheck;

use crate::backend::nanos;

/// How a backend dealt with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, with a status below 500.
    Success {
        /// From the request to the head of its answer.
        latency: Duration,
    },
    /// It answered with 500 or more, but none of the next ones.
    ServerError,
    /// It answered with 502, 503 or 504.
    GatewayError,
    /// It could not be reached, broke off or took too long.
    LocalError,
    /// It was asked first, and another one answered before it did.
    Overtaken {
        /// So long it had.
        after: Duration,
    },
}

/// What is known of a backend's answers.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    /// Nanoseconds since the process started.
    until: AtomicU64,
    count: AtomicU64,
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    /// How many times the base the last ejection took; that much time in use makes it fewer.
    times: AtomicU32,
}

impl Ejection {
    pub(crate) fn is_on(&self, now: Duration) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && nanos(now) < until
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// When the ejection that is on ends.
    pub(crate) fn end(&self, now: Duration) -> Option<u64> {
        self.is_on(now).then(|| self.until.load(Ordering::Relaxed))
    }

    /// Ends one that is on, as nobody asks for ejections any more.
    pub(crate) fn end_now(&self) {
        self.until.store(0, Ordering::Relaxed);
        self.times.store(0, Ordering::Relaxed);
        self.forgive();
    }

    /// Takes an outcome; answers whether there were so many bad ones in a row that it should be ejected.
    pub(crate) fn is_due(&self, check: &PassiveCheck, outcome: Outcome) -> bool {
        let reset = |count: &AtomicU32| {
            // Reactors share it: most of the time there is nothing to write.
            if count.load(Ordering::Relaxed) != 0 {
                count.store(0, Ordering::Relaxed);
            }
        };
        let one_more = |count: &AtomicU32| count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        match outcome {
            Outcome::Success { .. } => {
                reset(&self.errors);
                reset(&self.gateway_errors);
                false
            }
            Outcome::ServerError => {
                reset(&self.gateway_errors);
                one_more(&self.errors) >= check.consecutive_errors
            }
            // Whether it would have answered, and how, nobody knows.
            Outcome::Overtaken { .. } => one_more(&self.errors) >= check.consecutive_errors,
            Outcome::GatewayError | Outcome::LocalError => {
                let gateway_errors = one_more(&self.gateway_errors);
                one_more(&self.errors) >= check.consecutive_errors
                    || check.consecutive_gateway_errors.is_some_and(|most| gateway_errors >= most)
            }
        }
    }

    /// Counting begins again.
    pub(crate) fn forgive(&self) {
        self.errors.store(0, Ordering::Relaxed);
        self.gateway_errors.store(0, Ordering::Relaxed);
    }

    /// Ejects; answers for how long. Nobody else may at the same time.
    pub(crate) fn begin(&self, check: &PassiveCheck, now: Duration) -> Duration {
        let in_use = nanos(now).saturating_sub(self.until.load(Ordering::Relaxed));
        let intervals = in_use / nanos(check.interval).max(1);
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        let times = self.times.load(Ordering::Relaxed).saturating_sub(intervals).saturating_add(1);
        let length = check.base_ejection.saturating_mul(times).min(check.max_ejection);
        self.times.store(times, Ordering::Relaxed);
        self.until.store(nanos(now.saturating_add(length)), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        length
    }
}

/// How many of so many backends may be ejected at a time.
pub(crate) fn ejected_max(check: &PassiveCheck, backends: usize) -> usize {
    let percent = usize::try_from(check.max_ejected).unwrap_or(100).min(100);
    (backends * percent / 100).max(usize::from(backends >= 2))
}
