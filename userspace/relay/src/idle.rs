//! Who was silent for too long: a store for every move, one pass over a dense table now and then.

use std::time::{Duration, Instant};

/// Between two passes at least, and so how late a pair may be found.
pub(crate) const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// When each pair of one thread must have moved.
#[derive(Debug)]
pub(crate) struct IdleTable {
    /// By slot of the pair.
    rows: Vec<Option<Row>>,
    /// No pair is due before.
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    idle: Duration,
    due: Instant,
}

impl IdleTable {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), next: None }
    }

    /// Watches a pair that has just begun.
    pub(crate) fn insert(&mut self, slot: usize, idle: Duration, now: Instant) {
        if self.rows.len() <= slot {
            self.rows.resize(slot + 1, None);
        }
        // What cannot be reckoned with is never.
        let Some(due) = now.checked_add(idle) else { return };
        if let Some(row) = self.rows.get_mut(slot) {
            *row = Some(Row { idle, due });
        }
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    /// The pair has moved a byte.
    pub(crate) fn moved(&mut self, slot: usize, now: Instant) {
        if let Some(Some(row)) = self.rows.get_mut(slot)
            && let Some(due) = now.checked_add(row.idle)
        {
            row.due = due;
        }
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        if let Some(row) = self.rows.get_mut(slot) {
            *row = None;
        }
    }

    /// How long nothing needs to be looked at; `None` where nobody is watched.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        self.next.map(|next| next.saturating_duration_since(now))
    }

    /// The pairs that are due, if it is time to look.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<usize> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (slot, row) in self.rows.iter().enumerate() {
            match row {
                Some(row) if row.due <= now => due.push(slot),
                Some(row) => next = Some(next.map_or(row.due, |next| next.min(row.due))),
                None => {}
            }
        }
        self.next = next.map(|next| next.max(now + SWEEP_PAUSE));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pair_is_due_when_it_was_silent_for_so_long_and_not_before() {
        let start = Instant::now();
        let mut table = IdleTable::new();
        assert_eq!(table.pause(start), None);
        table.insert(3, 2 * SECOND, start);
        table.insert(0, 5 * SECOND, start);
        assert_eq!(table.pause(start), Some(2 * SECOND));
        table.moved(3, start + SECOND);
        assert_eq!(table.due(start + 2 * SECOND), Vec::<usize>::new());
        assert_eq!(table.pause(start + 2 * SECOND), Some(SECOND));
        assert_eq!(table.due(start + 3 * SECOND), [3]);
        table.remove(3);
        assert_eq!(table.due(start + 5 * SECOND), [0]);
        table.remove(0);
        assert_eq!(table.due(start + 9 * SECOND), Vec::<usize>::new());
        assert_eq!(table.pause(start + 9 * SECOND), None);
    }

    #[test]
    fn passes_keep_a_pause() {
        let start = Instant::now();
        let mut table = IdleTable::new();
        table.insert(0, SECOND, start);
        table.insert(1, SECOND + Duration::from_millis(1), start);
        assert_eq!(table.due(start + SECOND), [0]);
        table.remove(0);
        assert_eq!(table.pause(start + SECOND), Some(SWEEP_PAUSE));
    }

    #[test]
    fn an_endless_idle_time_is_endless() {
        let mut table = IdleTable::new();
        table.insert(0, Duration::MAX, Instant::now());
        assert_eq!(table.pause(Instant::now()), None);
    }
}
