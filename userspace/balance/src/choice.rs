//! What a choice goes by, and who stands for it.

use std::sync::Arc;
use std::time::Duration;

use crate::hash::{mix, unit};
use crate::{Backend, BackendId, Health};

/// What is known of the request that a backend is chosen for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// Backends that are not to be picked: they were tried in vain.
    pub tried: &'a [BackendId],
    /// What algorithms that hash go by; without it they take `random`.
    pub hash: Option<u64>,
    /// The token of the backend that the client was served by: see [`Backend::token`].
    pub sticky: Option<u64>,
    /// Since the process started.
    pub now: Duration,
    /// Any number, another one for each choice.
    pub random: u64,
}

impl Choice<'_> {
    pub(crate) fn key(&self) -> u64 {
        mix(self.hash.unwrap_or(self.random))
    }
}

/// The backends that one algorithm chooses among, as they are at the time of a choice.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pub(crate) backends: &'a [Arc<Backend>],
    pub(crate) choice: &'a Choice<'a>,
    /// How long a backend takes to its full share.
    pub(crate) slow_start: Duration,
    /// Open requests that backends should have for each unit of their weight; `None` if not known.
    pub(crate) load: Option<f64>,
}

impl Candidates<'_> {
    /// How many there are, usable or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether there are none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// The one at an index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Backend> {
        self.backends.get(index).map(|backend| &**backend)
    }

    /// Whether the one at an index may be picked.
    #[must_use]
    pub fn is_usable(&self, index: usize) -> bool {
        self.get(index).is_some_and(|backend| {
            backend.weight() > 0
                && backend.is_usable(self.choice.now)
                && !self.choice.tried.contains(&backend.id())
        })
    }

    /// Its weight as far as it has come up; 0 if it may not be picked.
    #[must_use]
    pub fn share(&self, index: usize) -> f64 {
        match self.get(index).filter(|_| self.is_usable(index)) {
            Some(backend) => f64::from(backend.weight()) * self.ramp(backend),
            None => 0.0,
        }
    }

    /// Whether one that is picked by its full weight is taken, as it may only just have come up; for
    /// the same `draw` it stays with its answer until it comes up again.
    #[must_use]
    pub fn takes(&self, index: usize, draw: u64) -> bool {
        self.is_usable(index) && self.get(index).is_some_and(|it| unit(draw) < self.ramp(it))
    }

    /// What algorithms that hash go by, well mixed.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.choice.key()
    }

    fn ramp(&self, backend: &Backend) -> f64 {
        backend.ramp(self.choice.now, self.slow_start)
    }
}

impl Backend {
    /// Whether it may be picked by its condition: neither down nor ejected.
    #[must_use]
    pub fn is_usable(&self, now: Duration) -> bool {
        self.health() != Health::Down && !self.is_ejected(now)
    }
}
