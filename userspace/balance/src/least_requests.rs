//! Least requests: the backend with the fewest open requests for its weight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_model::AlgorithmName;

use crate::{Algorithm, AlgorithmSpec, Backend};

pub(crate) const SPEC: AlgorithmSpec = AlgorithmSpec {
    name: AlgorithmName::LeastRequests,
    summary: "the backend with the fewest open requests for its weight",
    build: |_| Box::new(LeastRequests::default()),
};

/// Looks at every backend; equals are taken in turn, or an idle upstream would use the first alone.
#[derive(Debug, Default)]
struct LeastRequests {
    after_last: AtomicUsize,
}

impl Algorithm for LeastRequests {
    fn pick(&self, backends: &[Arc<Backend>], usable: &dyn Fn(&Backend) -> bool) -> Option<usize> {
        let start = self.after_last.load(Ordering::Relaxed);
        let picked = (0..backends.len())
            .map(|step| start.wrapping_add(step) % backends.len())
            .filter_map(|index| Some((index, backends.get(index)?)))
            .filter(|(_, backend)| usable(backend))
            .min_by(|(_, a), (_, b)| {
                // open/weight compared without division; +1 for the request that is to be placed.
                let load =
                    |x: &Backend, y: &Backend| u64::from(x.open() + 1) * u64::from(y.weight());
                load(a, b).cmp(&load(b, a))
            })
            .map(|(index, _)| index)?;
        self.after_last.store(picked + 1, Ordering::Relaxed);
        Some(picked)
    }
}
