//! A backend: a target's address with its run-time state, shared by reactors, health and admin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use weir_model::Weight;

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
    open: AtomicU32,
    requests: AtomicU64,
    failures: AtomicU64,
}

static HEALTH_CHANGES: AtomicU64 = AtomicU64::new(0);

/// How often the health of any backend has changed: whoever follows it need not look at all of them.
#[must_use]
pub fn health_changes() -> u64 {
    HEALTH_CHANGES.load(Ordering::Relaxed)
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
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: BackendId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            address,
            weight: AtomicU32::new(weight.value()),
            health: AtomicU8::new(Health::Unknown as u8),
            open: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
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
        if self.health.swap(health as u8, Ordering::Relaxed) != health as u8 {
            HEALTH_CHANGES.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request that this backend was chosen for is open, until the answer is dropped.
    #[must_use]
    pub fn open_request(self: &Arc<Self>) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenRequest(Arc::clone(self))
    }

    /// Requests that this backend was chosen for and that are not answered in full.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a request that is sent here.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were sent here since the process started.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts a request that this backend failed to answer.
    pub fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that this backend failed to answer: not reached, died, timed out, or unreadable.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// A request that is open at a backend; dropping it ends it.
#[derive(Debug)]
pub struct OpenRequest(Arc<Backend>);

impl OpenRequest {
    /// Where the request is open.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
