//! Deadlines of one reactor: armed for the price of a store, checked by one sweep.
//!
//! A request that goes well arms and disarms several deadlines that never fire, so arming must
//! cost nothing: it writes a number into a dense table. A sweep every [`TICK_MS`] reads the table in
//! one go (100,000 connections are 800 KB) and wakes the tasks whose time has come.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Between two sweeps, and so how late a deadline may fire.
pub(crate) const TICK_MS: u64 = 50;

const NEVER: u64 = u64::MAX;
const FIRED: u64 = 0;

/// All deadlines of one reactor.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Milliseconds since the reactor started, as of the last sweep.
    now: Cell<u64>,
    /// By slot: when it fires, `NEVER`, or `FIRED`.
    deadlines: RefCell<Vec<u64>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl Timers {
    /// A deadline that is not armed.
    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.wakers.borrow_mut().push(None);
            self.deadlines.borrow_mut().push(NEVER);
            self.deadlines.borrow().len() - 1
        });
        Timer { timers: Rc::clone(self), slot, registered: Cell::new(false) }
    }

    /// Fires what is due at `now`, milliseconds since the reactor started.
    pub(crate) fn sweep(&self, now: u64) {
        self.now.set(now);
        for (slot, deadline) in self.deadlines.borrow_mut().iter_mut().enumerate() {
            if *deadline <= now && *deadline != FIRED {
                *deadline = FIRED;
                self.wake(slot);
            }
        }
    }

    /// Wakes every task that waits, so that it looks at what has changed: the drain.
    pub(crate) fn wake_all(&self) {
        self.wakers.borrow().iter().flatten().for_each(Waker::wake_by_ref);
    }

    fn wake(&self, slot: usize) {
        if let Some(Some(waker)) = self.wakers.borrow().get(slot) {
            waker.wake_by_ref();
        }
    }

    fn set(&self, slot: usize, deadline: u64) {
        if let Some(place) = self.deadlines.borrow_mut().get_mut(slot) {
            *place = deadline;
        }
    }
}

/// One deadline of one task. Belongs to the task that first waits on it.
#[derive(Debug)]
pub(crate) struct Timer {
    timers: Rc<Timers>,
    slot: usize,
    registered: Cell<bool>,
}

impl Timer {
    /// Fires `after` from now, up to one tick later.
    pub(crate) fn arm(&self, after: Duration) {
        let after = u64::try_from(after.as_millis()).unwrap_or(NEVER / 2);
        // `now` is up to a tick old, so a deadline is never early.
        self.timers.set(self.slot, self.timers.now.get() + after + TICK_MS);
    }

    /// Fires as armed, but no later than `after` from now.
    pub(crate) fn arm_at_most(&self, after: Duration) {
        let armed = self.timers.deadlines.borrow().get(self.slot).copied().unwrap_or(NEVER);
        self.arm(after);
        let capped = self.timers.deadlines.borrow().get(self.slot).copied().unwrap_or(NEVER);
        self.timers.set(self.slot, armed.min(capped));
    }

    /// Does not fire any more.
    pub(crate) fn disarm(&self) {
        self.timers.set(self.slot, NEVER);
    }

    /// Whether it fired since it was armed.
    pub(crate) fn fired(&self) -> bool {
        self.timers.deadlines.borrow().get(self.slot) == Some(&FIRED)
    }

    /// Sees to it that the task is woken when this fires.
    pub(crate) fn register(&self, context: &Context<'_>) {
        if !self.registered.replace(true)
            && let Some(place) = self.timers.wakers.borrow_mut().get_mut(self.slot)
        {
            *place = Some(context.waker().clone());
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
        if let Some(place) = self.timers.wakers.borrow_mut().get_mut(self.slot) {
            *place = None;
        }
        self.timers.free.borrow_mut().push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_once_its_time_has_come_and_not_before() {
        let timers = Rc::new(Timers::default());
        let timer = timers.timer();
        timers.sweep(1_000);
        timer.arm(Duration::from_millis(100));
        timers.sweep(1_100);
        assert!(!timer.fired());
        timers.sweep(1_150);
        assert!(timer.fired());
        timer.arm(Duration::from_secs(1));
        assert!(!timer.fired());
        timer.arm_at_most(Duration::from_millis(100));
        timer.arm_at_most(Duration::from_millis(200));
        timers.sweep(1_300);
        assert!(timer.fired());
        timer.disarm();
        timers.sweep(10_000);
        assert!(!timer.fired());
    }

    #[test]
    fn slots_are_used_again() {
        let timers = Rc::new(Timers::default());
        let slot = timers.timer().slot;
        assert_eq!(timers.timer().slot, slot);
        assert_eq!(timers.deadlines.borrow().len(), 1);
    }
}
