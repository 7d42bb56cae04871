//! Runs of addresses, cut at the bounds of /24s.

use weir_abi::ban::Cell;

use super::memory::Marks;
use crate::rule::{Rule, runs};

/// A run of addresses inside one /24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u8,
    pub(crate) last: u8,
    pub(crate) cell: Cell,
}

/// What becomes of a /24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf<'a> {
    /// All of it has one decision.
    Whole(Cell),
    /// It is cut into runs; what is in none is clean.
    Runs(&'a [Run]),
}

/// Addresses of a run that are marked one by one; a longer one marks everything near.
const HOSTS_MAX: u8 = 8;

impl Leaf<'_> {
    /// Sets the marks by which a packet finds the leaf of a /24.
    pub(crate) fn mark(&self, marks: Marks<'_>, block: u32) {
        let Self::Runs(runs) = self else { return marks.add_all(block) };
        if runs.iter().any(|run| run.last - run.first >= HOSTS_MAX) {
            return marks.add_all(block);
        }
        for last in runs.iter().flat_map(|run| run.first..=run.last) {
            marks.add(block << 8 | u32::from(last));
        }
    }
}

/// Tells, in order, of every /24 that is not clean: its number, and what becomes of it. Ends at the
/// first error.
pub(crate) fn leaves<E>(
    rules: &[Rule<u32>],
    mut tell: impl FnMut(u32, Leaf<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut flush = |block: u32, held: &mut Vec<Run>| {
        let told = match held.as_slice() {
            [] => Ok(()),
            [Run { first: 0, last: 255, cell }] => tell(block, Leaf::Whole(*cell)),
            runs => tell(block, Leaf::Runs(runs)),
        };
        held.clear();
        told
    };
    let (mut told, mut open, mut held) = (Ok(()), 0, Vec::<Run>::with_capacity(256));
    runs(rules, |first, last, cell| {
        for block in first >> 8..=last >> 8 {
            if told.is_err() {
                return;
            }
            if block != open {
                told = flush(open, &mut held);
                open = block;
            }
            let from = if block == first >> 8 { first as u8 } else { 0 };
            let to = if block == last >> 8 { last as u8 } else { u8::MAX };
            match held.last_mut() {
                Some(run) if run.cell == cell && run.last.checked_add(1) == Some(from) => {
                    run.last = to;
                }
                _ => held.push(Run { first: from, last: to, cell }),
            }
        }
    });
    told?;
    flush(open, &mut held)
}
