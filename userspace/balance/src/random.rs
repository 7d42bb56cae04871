//! Random: any backend, in proportion to the weights.

use weir_model::AlgorithmName;

use crate::hash::Draws;
use crate::weighted::Weighted;
use crate::{Algorithm, AlgorithmSpec, Candidates};

pub(crate) const SPEC: AlgorithmSpec = AlgorithmSpec {
    name: AlgorithmName::Random,
    summary: "at random, in proportion to the weights",
    build: |setting| Box::new(Random(Weighted::new(&setting.weights()))),
};

/// Nothing is shared by reactors but what never changes.
#[derive(Debug)]
struct Random(Weighted);

impl Algorithm for Random {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        self.0.pick(candidates, &mut Draws::new(candidates.choice.random, 1))
    }
}
