//! Idle connections to backends, one pool a reactor.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use weir_balance::{BackendId, ConnectionSlot, Upstream};

use crate::snapshot::TransportId;
use crate::stream::Stream;

/// Idle connections kept to one backend by one reactor.
const IDLE_MAX: usize = 1024;
/// How long a connection may be idle; shorter than what common servers allow (60 s and more).
const IDLE_AGE_MAX: Duration = Duration::from_secs(50);

/// Connections with the same key serve each other's requests.
pub(crate) type PoolKey = (BackendId, TransportId);

/// Idle connections by backend; the last one used is used first, so that the others can age.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<PoolKey, Vec<Idle>, BuildHasherDefault<IdHasher>>>,
}

/// A connection to a backend with its place among those that its upstream may have.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) stream: Stream,
    pub(crate) _slot: Option<ConnectionSlot>,
}

#[derive(Debug)]
struct Idle {
    kept: Kept,
    since: Duration,
}

impl Pool {
    /// A connection that was still open when last heard of.
    pub(crate) fn take(&self, key: PoolKey) -> Option<Kept> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&key)?;
        while let Some(Idle { kept, .. }) = connections.pop() {
            if kept.stream.is_quiet() {
                return Some(kept);
            }
        }
        None
    }

    /// Keeps a connection that has nothing left to say. `now` is time since the reactor started.
    pub(crate) fn put(&self, key: PoolKey, kept: Kept, now: Duration) {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(key).or_default();
        if connections.len() < IDLE_MAX {
            connections.push(Idle { kept, since: now });
        }
    }

    /// Closes an idle connection to any backend of an upstream that has as many as it may.
    pub(crate) fn make_room(&self, upstream: &Upstream) {
        let mut idle = self.idle.borrow_mut();
        let of_upstream = |id| upstream.backends().iter().any(|backend| backend.id() == id);
        let mut others = idle.iter_mut().filter(|((id, _), _)| of_upstream(*id));
        if let Some((_, connections)) = others.find(|(_, connections)| !connections.is_empty()) {
            connections.remove(0);
        }
    }

    /// Closes connections that are too old, that the backend closed, or whose backend is gone.
    pub(crate) fn prune(&self, now: Duration, is_known: impl Fn(PoolKey) -> bool) {
        self.idle.borrow_mut().retain(|&key, connections| {
            connections.retain(|idle| {
                now.saturating_sub(idle.since) < IDLE_AGE_MAX && idle.kept.stream.is_quiet()
            });
            !connections.is_empty() && is_known(key)
        });
    }
}

/// Backend ids are small distinct numbers; hashing them would cost more than the look-up.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The table takes its control bits from the top.
        self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = self.0.rotate_left(5) ^ id;
    }
}
