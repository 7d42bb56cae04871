//! Retry budgets: retries may be so many percent of the requests of the last ten seconds, and a few
//! more; so a failing upstream does not get a multiple of what it failed at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds that count; a bucket each.
const WINDOW_S: usize = 10;
/// Retries a second that are allowed whatever the requests.
const RETRIES_PER_S_MIN: u64 = 3;

/// How many retries are still allowed. Shared by all reactors.
#[derive(Debug)]
pub struct RetryBudget {
    percent: u32,
    requests: Window,
    retries: Window,
}

impl RetryBudget {
    /// A budget of that percentage of requests.
    #[must_use]
    pub fn new(percent: u32) -> Self {
        Self { percent, requests: Window::default(), retries: Window::default() }
    }

    /// Takes note of a request (not of its retries).
    pub fn on_request(&self, now: Duration) {
        self.requests.add(now.as_secs());
    }

    /// Whether a request may be sent once more; if so it counts. Never more than allowed are, also while
    /// reactors ask at the same time; then one may be refused that would just have been.
    #[must_use]
    pub fn try_retry(&self, now: Duration) -> bool {
        let second = now.as_secs();
        self.retries.add(second);
        let share = self.requests.sum(second) * u64::from(self.percent) / 100;
        let is_allowed = self.retries.sum(second) <= share + RETRIES_PER_S_MIN * WINDOW_S as u64;
        if !is_allowed {
            self.retries.take_back(second);
        }
        is_allowed
    }
}

/// What happened in each of the last seconds: the second and the count, in one word.
#[derive(Debug, Default)]
struct Window([AtomicU64; WINDOW_S]);

impl Window {
    fn bucket(&self, second: u64) -> Option<&AtomicU64> {
        self.0.get((second % WINDOW_S as u64) as usize)
    }

    fn add(&self, second: u64) {
        self.update(second, |word| match word >> 32 {
            // A reactor whose clock is behind by a whole window counts where it can.
            of if of >= u64::from(second as u32) => Some(word.saturating_add(1)),
            _ => Some(second << 32 | 1),
        });
    }

    fn take_back(&self, second: u64) {
        self.update(second, |word| {
            (word >> 32 == u64::from(second as u32) && word as u32 > 0).then(|| word - 1)
        });
    }

    fn update(&self, second: u64, change: impl FnMut(u64) -> Option<u64>) {
        if let Some(bucket) = self.bucket(second) {
            // Refused where there is nothing to take back.
            let _ = bucket.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        }
    }

    fn sum(&self, second: u64) -> u64 {
        let is_of_late = |word: &u64| (word >> 32) + WINDOW_S as u64 > second;
        let words = self.0.iter().map(|bucket| bucket.load(Ordering::Acquire));
        words.filter(is_of_late).map(|word| u64::from(word as u32)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_secs;

    /// How many of `tries` retries at that second are allowed.
    fn allowed(budget: &RetryBudget, second: u64, tries: usize) -> usize {
        (0..tries).filter(|_| budget.try_retry(AT(second))).count()
    }

    #[test]
    fn a_share_of_the_requests_of_late_and_a_few_more() {
        let budget = RetryBudget::new(20);
        assert_eq!(allowed(&budget, 0, 100), 30);
        (0..1_000).for_each(|_| budget.on_request(AT(1)));
        assert_eq!(allowed(&budget, 1, 1_000), 200);
        assert_eq!(allowed(&budget, 9, 10), 0);
        assert_eq!(allowed(&budget, 10, 100), 30, "those of second 0 are forgotten");
        assert_eq!(allowed(&budget, 11, 100), 0, "so are the requests of second 1, but not 30");
        assert_eq!(allowed(&budget, 20, 100), 30);
        assert_eq!(allowed(&budget, 1_000, 100), 30);
        assert_eq!(allowed(&RetryBudget::new(0), 5, 100), 30);
    }

    #[test]
    fn it_holds_while_threads_ask_at_the_same_time() {
        let budget = RetryBudget::new(10);
        (0..1_000).for_each(|_| budget.on_request(AT(3)));
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| sum.fetch_add(allowed(&budget, 3, 500), Ordering::Relaxed));
            }
        });
        // Refusals at the same time may cost a few at the very end, not more than there are threads.
        assert!((122..=130).contains(&sum.into_inner()));
    }
}
