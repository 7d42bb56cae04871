//! One of many at random, in proportion to weights: in constant time where most are usable.

use crate::Candidates;
use crate::hash::{Draws, unit};

/// Draws before every candidate is looked at: with nine in ten unusable, one choice in thirty gets there.
const DRAWS_MAX: usize = 32;
/// Up to so many candidates the best of all is taken.
const FEW: usize = 4;

/// Walker's alias table: a column for each weight, shared by at most two of them.
#[derive(Debug)]
pub(crate) struct Weighted(Vec<Column>);

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Of 2^32 draws, those that are the column's own.
    own: u32,
    index: u32,
    other: u32,
}

impl Weighted {
    /// A table of these weights; an empty one if all are 0.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        if total == 0 {
            return Self(Vec::new());
        }
        // In units of which a column has `total`.
        let mut rest: Vec<u64> =
            weights.iter().map(|&weight| u64::from(weight) * weights.len() as u64).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0u32..)
            .take(rest.len())
            .partition(|&index| rest.get(index as usize).is_some_and(|rest| *rest < total));
        let mut columns: Vec<_> =
            (0u32..).take(rest.len()).map(|index| Column { own: 0, index, other: index }).collect();
        while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
            let own = rest.get(less as usize).copied().unwrap_or(0);
            if let Some(column) = columns.get_mut(less as usize) {
                column.own =
                    u32::try_from((u128::from(own) << 32) / u128::from(total)).unwrap_or(u32::MAX);
                column.other = more;
            }
            let Some(rest) = rest.get_mut(more as usize) else { break };
            *rest -= total - own;
            if *rest < total {
                small.extend(large.pop());
            }
        }
        Self(columns)
    }

    /// The index that a random word leads to.
    pub(crate) fn draw(&self, word: u64) -> Option<usize> {
        let at = ((word >> 32) * self.0.len() as u64) >> 32;
        let column = self.0.get(at as usize)?;
        Some(if (word as u32) < column.own { column.index } else { column.other } as usize)
    }

    /// A usable candidate.
    pub(crate) fn pick(&self, candidates: &Candidates<'_>, draws: &mut Draws) -> Option<usize> {
        self.pick_other(candidates, draws, None)
    }

    /// Of two candidates the one that costs less; where there are few, of all. Equal ones are taken by
    /// weight.
    pub(crate) fn cheapest(
        &self,
        candidates: &Candidates<'_>,
        draws: &mut Draws,
        cost: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        if candidates.len() <= FEW {
            return cheapest_of_all(candidates, draws, cost);
        }
        let first = self.pick(candidates, draws)?;
        let second = self.pick_other(candidates, draws, Some(first));
        second.filter(|second| cost(*second) < cost(first)).or(Some(first))
    }

    fn pick_other(
        &self,
        candidates: &Candidates<'_>,
        draws: &mut Draws,
        than: Option<usize>,
    ) -> Option<usize> {
        let drawn = (0..DRAWS_MAX).find_map(|_| {
            let index = self.draw(draws.next())?;
            (Some(index) != than && candidates.takes(index, draws.next())).then_some(index)
        });
        drawn.or_else(|| {
            let others = (0..candidates.len()).filter(|index| Some(*index) != than);
            by_share(others, candidates, draws)
        })
    }
}

/// One of those indices, in proportion to their shares.
fn by_share(
    indices: impl Iterator<Item = usize>,
    candidates: &Candidates<'_>,
    draws: &mut Draws,
) -> Option<usize> {
    let (mut sum, mut picked) = (0.0, None);
    for index in indices {
        let share = candidates.share(index);
        sum += share;
        if share > 0.0 && unit(draws.next()) * sum < share {
            picked = Some(index);
        }
    }
    picked
}

fn cheapest_of_all(
    candidates: &Candidates<'_>,
    draws: &mut Draws,
    cost: impl Fn(usize) -> f64,
) -> Option<usize> {
    let (mut least, mut sum, mut picked) = (f64::INFINITY, 0.0, None);
    for index in 0..candidates.len() {
        let share = candidates.share(index);
        if share <= 0.0 {
            continue;
        }
        let cost = cost(index);
        if cost < least {
            (least, sum, picked) = (cost, share, Some(index));
        } else if cost == least {
            sum += share;
            if unit(draws.next()) * sum < share {
                picked = Some(index);
            }
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_in_proportion_to_weights() {
        for weights in [&[1][..], &[1, 1], &[100, 200, 300], &[0, 5, 0, 1], &[65_535, 1, 65_535]] {
            let table = Weighted::new(weights);
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0u32; weights.len()];
            let mut draws = Draws::new(7, 0);
            (0..200_000).for_each(|_| counts[table.draw(draws.next()).unwrap()] += 1);
            for (count, weight) in counts.iter().zip(weights) {
                let expected = 200_000.0 * f64::from(*weight) / f64::from(total);
                let error = (f64::from(*count) - expected).abs();
                assert!(error <= 5.0 * expected.sqrt(), "{weights:?}: {counts:?}");
            }
        }
        assert_eq!(Weighted::new(&[]).draw(1), None);
        assert_eq!(Weighted::new(&[0, 0]).draw(1), None);
    }
}
