//! Least requests: of two backends at random, the one with fewer open requests for its weight. That
//! is almost as even as the best of all, and reactors that choose at the same time do not all take the
//! same one (Mitzenmacher, The Power of Two Choices).

use weir_model::AlgorithmName;

use crate::hash::Draws;
use crate::weighted::Weighted;
use crate::{Algorithm, AlgorithmSpec, Backend, Candidates};

pub(crate) const SPEC: AlgorithmSpec = AlgorithmSpec {
    name: AlgorithmName::LeastRequests,
    summary: "of two at random (of up to four all) the one with the fewest open requests for its weight",
    build: |setting| Box::new(LeastRequests(Weighted::new(&setting.weights()))),
};

#[derive(Debug)]
struct LeastRequests(Weighted);

impl Algorithm for LeastRequests {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let draws = &mut Draws::new(candidates.choice.random, 1);
        self.0.cheapest(candidates, draws, |index| {
            let open = candidates.get(index).map_or(0, Backend::open);
            f64::from(open) / candidates.share(index)
        })
    }
}
