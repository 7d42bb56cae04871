//! Limits of what is under way to an upstream: counters that are never above them, also while
//! reactors count at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many are inside.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU32);

impl Gate {
    /// A slot, unless all are taken.
    pub(crate) fn enter(self: &Arc<Self>, limit: Option<u32>) -> Option<Slot> {
        let limit = limit.unwrap_or(u32::MAX);
        let one_more = |inside| (inside < limit).then_some(inside + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Slot(Arc::clone(self)))
    }

    pub(crate) fn inside(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A place inside; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Gate>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection to a backend of an upstream, until it is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    pub(crate) _slot: Slot,
}

/// A request that waits for a connection, until it is dropped.
#[derive(Debug)]
pub struct PendingSlot {
    pub(crate) _slot: Slot,
}

/// A request that is not answered in full, until it is dropped.
#[derive(Debug)]
pub struct RequestSlot {
    pub(crate) _slot: Option<Slot>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_while_threads_count_at_the_same_time() {
        let gate = Arc::new(Gate::default());
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(slot) = gate.enter(Some(3)) else { continue };
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(slot);
                    }
                });
            }
        });
        assert_eq!(gate.inside(), 0);
        let held: Vec<_> = (0..5).filter_map(|_| gate.enter(Some(3))).collect();
        assert_eq!((held.len(), gate.inside()), (3, 3));
        assert!(gate.enter(None).is_some());
        assert!(gate.enter(Some(0)).is_none());
    }
}
