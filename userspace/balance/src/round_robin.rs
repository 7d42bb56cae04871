//! Round-robin: in turn, in proportion to the weights, interleaved as evenly as can be.

use std::sync::atomic::{AtomicUsize, Ordering};

use weir_model::AlgorithmName;

use crate::hash::Draws;
use crate::{Algorithm, AlgorithmSpec, Candidates};

pub(crate) const SPEC: AlgorithmSpec = AlgorithmSpec {
    name: AlgorithmName::RoundRobin,
    summary: "in turn, in proportion to the weights",
    build: |setting| Box::new(RoundRobin::new(setting.weights())),
};

/// Turns in a round. Weights that need more are rounded to this many.
const TURNS_MAX: u32 = 4096;

/// A round is written down once; reactors share one cursor into it, so the spread is exact over all
/// of them. A turn whose backend cannot be used is skipped, which shares it out by weight; so are some
/// turns of one that only just came up.
#[derive(Debug)]
struct RoundRobin {
    round: Vec<u16>,
    cursor: AtomicUsize,
}

impl RoundRobin {
    fn new(weights: Vec<u32>) -> Self {
        Self { round: smooth(&reduce(weights)), cursor: AtomicUsize::new(0) }
    }
}

impl Algorithm for RoundRobin {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let draws = &mut Draws::new(candidates.choice.random, 1);
        let mut warming = None;
        for _ in 0..self.round.len() {
            let turn = self.cursor.fetch_add(1, Ordering::Relaxed) % self.round.len();
            let index = self.round.get(turn).map(|&index| usize::from(index))?;
            if candidates.takes(index, draws.next()) {
                return Some(index);
            }
            if warming.is_none() && candidates.is_usable(index) {
                warming = Some(index);
            }
        }
        // Another reactor may have taken the only usable turns of this round.
        warming.or_else(|| (0..candidates.len()).find(|&index| candidates.is_usable(index)))
    }
}

/// Divides by the greatest common divisor, and scales down to `TURNS_MAX` where that is not enough.
fn reduce(mut weights: Vec<u32>) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    weights.iter_mut().for_each(|weight| *weight /= divisor);
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if sum > u64::from(TURNS_MAX) {
        for weight in &mut weights {
            let scaled = u64::from(*weight) * u64::from(TURNS_MAX) / sum;
            *weight = u32::try_from(scaled).unwrap_or(TURNS_MAX).max((*weight).min(1));
        }
    }
    weights
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The smooth weighted order (as nginx takes it): each turn everyone gains its weight, the richest
/// is chosen and pays the sum.
fn smooth(weights: &[u32]) -> Vec<u16> {
    let sum: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
    let mut credit = vec![0i64; weights.len()];
    let mut round = Vec::new();
    for _ in 0..sum {
        for (credit, &weight) in credit.iter_mut().zip(weights) {
            *credit += i64::from(weight);
        }
        // The first of the richest, so that equal weights go in the order of the file.
        let Some(richest) = (0..credit.len()).rev().max_by_key(|&index| credit.get(index)) else {
            break;
        };
        if let (Some(credit), Ok(index)) = (credit.get_mut(richest), u16::try_from(richest)) {
            *credit -= sum;
            round.push(index);
        }
    }
    round
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaves_by_weight() {
        for (weights, round) in [
            (&[100, 100][..], &[0, 1][..]),
            (&[100, 100, 100], &[0, 1, 2]),
            (&[200, 100], &[0, 1, 0]),
            (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
            (&[7], &[0]),
        ] {
            assert_eq!(smooth(&reduce(weights.to_vec())), round, "{weights:?}");
        }
    }

    #[test]
    fn large_weights_are_scaled_and_nobody_is_lost() {
        let reduced = reduce(vec![65_535, 65_534, 1]);
        assert!(reduced.iter().sum::<u32>() <= TURNS_MAX + 3, "{reduced:?}");
        assert_eq!(reduced[2], 1);
    }
}
