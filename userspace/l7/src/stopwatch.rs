//! How long a backend takes to the head of its answer: measured only where choices go by it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use weir_balance::Upstream;

/// Runs from its start to its stop; always at zero where nobody asks.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    began: Cell<Option<Instant>>,
    took: Cell<Duration>,
}

impl Stopwatch {
    /// One for a backend of that upstream.
    pub(crate) fn start(upstream: &Upstream) -> Self {
        let began = upstream.measures_latency().then(Instant::now);
        Self { began: Cell::new(began), took: Cell::default() }
    }

    /// What came before is not the backend's.
    pub(crate) fn restart(&self) {
        self.began.set(self.began.get().map(|_| Instant::now()));
    }

    pub(crate) fn stop(&self) {
        self.took.set(self.began.get().map_or(Duration::ZERO, |began| began.elapsed()));
    }

    /// From the start to the stop.
    pub(crate) fn took(&self) -> Duration {
        self.took.get()
    }
}
