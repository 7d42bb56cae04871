//! A backend: a target's address with its run-time state, shared by reactors, health and admin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use weir_model::Weight;

use crate::hash;
use crate::outlier::Ejection;
use crate::peak_ewma::Latency;

/// Of its share, what a backend gets that has just come up.
const FLOOR: f64 = 0.1;
/// Of a time: the backend has its full share.
const WARM: u64 = u64::MAX;
/// Of a time: the backend came up, and nobody has had a look at the clock since.
const JUST_UP: u64 = u64::MAX - 1;

/// Tells backends apart for the life of the process, also over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u64);

/// A resolved socket address with run-time state.
#[derive(Debug)]
pub struct Backend {
    id: BackendId,
    address: SocketAddr,
    weight: AtomicU32,
    health: AtomicU8,
    /// Since when it takes more and more, in nanoseconds since the process started; or `WARM`, `JUST_UP`.
    up_since: AtomicU64,
    pub(crate) ejection: Ejection,
    siblings: Arc<Siblings>,
    busy: Busy,
}

/// What every request writes, in cache lines of its own: the rest is read by every choice.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Busy {
    open: AtomicU32,
    requests: AtomicU64,
    failures: AtomicU64,
    latency: Latency,
}

/// Open requests of all backends of an upstream, for who asks for that: reactors that count at one place
/// slow each other down.
#[derive(Debug, Default)]
pub(crate) struct Siblings {
    is_counted: AtomicBool,
    open: AtomicU32,
}

impl Siblings {
    /// From now on they are counted.
    pub(crate) fn count(&self) {
        self.is_counted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }
}

/// A time as a word: enough for 584 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(JUST_UP - 1)
}

static HEALTH_CHANGES: AtomicU64 = AtomicU64::new(0);

/// How often the health of any backend has changed: whoever follows it need not look at all of them.
#[must_use]
pub fn health_changes() -> u64 {
    HEALTH_CHANGES.load(Ordering::Acquire)
}

/// What is known of a backend's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Not probed yet, or never: counts as usable.
    Unknown = 0,
    /// The last probes were good.
    Up = 1,
    /// The last probes were bad: gets no requests.
    Down = 2,
}

impl Health {
    /// The word for status and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Backend {
    /// A backend of unknown health, without open requests.
    #[must_use]
    pub fn new(address: SocketAddr, weight: Weight) -> Self {
        Self::among(address, weight, Arc::default())
    }

    /// The same, whose open requests count with those of its siblings.
    pub(crate) fn among(address: SocketAddr, weight: Weight, siblings: Arc<Siblings>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: BackendId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            address,
            weight: AtomicU32::new(weight.value()),
            health: AtomicU8::new(Health::Unknown as u8),
            up_since: AtomicU64::new(WARM),
            ejection: Ejection::default(),
            siblings,
            busy: Busy::default(),
        }
    }

    /// It joins others that serve already.
    pub(crate) fn joining(self) -> Self {
        self.up_since.store(JUST_UP, Ordering::Relaxed);
        self
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its share among the backends of its upstream; 0 gets nothing new.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    pub(crate) fn set_weight(&self, weight: Weight) {
        self.weight.store(weight.value(), Ordering::Relaxed);
    }

    /// Its condition.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Sets its condition; seen by the next choice of every reactor.
    pub fn set_health(&self, health: Health) {
        if health == Health::Up && self.health() == Health::Down {
            self.up_since.store(JUST_UP, Ordering::Relaxed);
        }
        if self.health.swap(health as u8, Ordering::Relaxed) != health as u8 {
            // Who sees that something has changed sees also what.
            HEALTH_CHANGES.fetch_add(1, Ordering::Release);
        }
    }

    /// Of its share, what it gets: all of it, or from a tenth on more and more after it has come up. The
    /// first look after that is when it begins.
    pub(crate) fn ramp(&self, now: Duration, slow_start: Duration) -> f64 {
        let up_since = self.up_since.load(Ordering::Relaxed);
        if up_since == WARM {
            return 1.0;
        }
        // Refused if it went down and came up again just now, or if another reactor was first.
        let begin = |now| {
            let order = Ordering::Relaxed;
            let _ = self.up_since.compare_exchange(up_since, now, order, order);
        };
        if slow_start.is_zero() {
            begin(WARM);
            return 1.0;
        }
        let now = nanos(now);
        if up_since == JUST_UP {
            begin(now);
            return FLOOR;
        }
        let grown = now.saturating_sub(up_since) as f64 / nanos(slow_start) as f64;
        if grown >= 1.0 {
            begin(WARM);
        }
        (FLOOR + (1.0 - FLOOR) * grown).min(1.0)
    }

    /// What its clients may be told to come back to it by: it follows from the address, so it is the
    /// same after a restart and at other balancers.
    #[must_use]
    pub fn token(&self) -> u64 {
        hash::token(self.address)
    }

    /// Whether it is left out for how it answered.
    #[must_use]
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.ejection.is_on(now)
    }

    /// How often it was ejected since the process started.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.ejection.count()
    }

    /// Takes note of how long an answer took.
    pub(crate) fn observe(&self, latency: Duration, now: Duration) {
        self.busy.latency.observe(latency, now);
    }

    /// How long it is expected to take for an answer; `None` if it has given none, or if the algorithm is
    /// another than `peak-ewma`.
    #[must_use]
    pub fn latency(&self, now: Duration) -> Option<Duration> {
        self.busy.latency.at(now)
    }

    /// A request that this backend was chosen for is open, until the answer is dropped.
    #[must_use]
    pub fn open_request(self: &Arc<Self>) -> OpenRequest {
        self.busy.open.fetch_add(1, Ordering::Relaxed);
        let is_sibling = self.siblings.is_counted.load(Ordering::Relaxed);
        if is_sibling {
            self.siblings.open.fetch_add(1, Ordering::Relaxed);
        }
        OpenRequest { backend: Arc::clone(self), is_sibling }
    }

    /// Requests that this backend was chosen for and that are not answered in full.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.busy.open.load(Ordering::Relaxed)
    }

    /// Counts a request that is sent here.
    pub fn count_request(&self) {
        self.busy.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were sent here since the process started.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.busy.requests.load(Ordering::Relaxed)
    }

    /// Counts a request that this backend failed to answer.
    pub fn count_failure(&self) {
        self.busy.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that this backend failed to answer: not reached, died, timed out, or unreadable.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.busy.failures.load(Ordering::Relaxed)
    }
}

/// A request that is open at a backend; dropping it ends it.
#[derive(Debug)]
pub struct OpenRequest {
    backend: Arc<Backend>,
    /// Whether it counts among the open requests of all siblings.
    is_sibling: bool,
}

impl OpenRequest {
    /// Where the request is open.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.backend.busy.open.fetch_sub(1, Ordering::Relaxed);
        if self.is_sibling {
            self.backend.siblings.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
