//! How many came in the last second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a rate is told of: shorter bursts are no flood.
const SECOND: Duration = Duration::from_secs(1);

/// Looks at a counter that only grows.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Those of the last second, and the last one before it.
    looks: VecDeque<(Instant, u64)>,
}

impl Meter {
    /// Takes what the counter says; how much it grew in the last second. What came before the first look
    /// does not count, so it is too low at first, and never too high.
    pub fn look(&mut self, counter: u64, now: Instant) -> f64 {
        self.looks.push_back((now, counter));
        while self.looks.get(1).is_some_and(|(then, _)| now.duration_since(*then) >= SECOND) {
            self.looks.pop_front();
        }
        let Some((then, before)) = self.looks.front() else { return 0.0 };
        let seconds = now.duration_since(*then).max(SECOND).as_secs_f64();
        counter.saturating_sub(*before) as f64 / seconds
    }

    /// Forgets: the next look is the first.
    pub fn forget(&mut self) {
        self.looks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_counts_for_a_second_and_no_more() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let mut look = |tenths: u32, counter| meter.look(counter, start + SECOND / 10 * tenths);
        assert_eq!(look(0, 1_000), 0.0);
        assert_eq!(look(1, 1_500), 500.0);
        assert_eq!(look(9, 1_500), 500.0);
        assert_eq!(look(10, 2_000), 1_000.0);
        assert_eq!(look(11, 2_000), 500.0);
        assert_eq!(look(21, 2_000), 0.0);
        // Looks that come late: by the time that they cover.
        assert_eq!(look(41, 6_000), 2_000.0);
        meter.forget();
        assert_eq!(meter.look(9_000, start + SECOND * 9), 0.0);
    }
}
