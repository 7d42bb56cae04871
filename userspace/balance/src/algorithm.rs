//! The registry of algorithms: one line here, one file beside it.

use std::fmt::Debug;
use std::sync::Arc;

use weir_model::AlgorithmName;

use crate::{Backend, least_requests, round_robin};

/// Chooses among the backends of one upstream. Shared by all reactors.
pub trait Algorithm: Debug + Send + Sync {
    /// The index of the backend that serves the next request, among those that are `usable`;
    /// `None` if there is none.
    fn pick(&self, backends: &[Arc<Backend>], usable: &dyn Fn(&Backend) -> bool) -> Option<usize>;
}

/// What is known of an algorithm without building it.
#[derive(Debug)]
pub struct AlgorithmSpec {
    /// Its name in the configuration.
    pub name: AlgorithmName,
    /// One sentence for the reference.
    pub summary: &'static str,
    /// Builds it for backends of these weights.
    pub build: fn(&[u32]) -> Box<dyn Algorithm>,
}

/// Every algorithm.
pub static ALGORITHMS: &[AlgorithmSpec] = &[round_robin::SPEC, least_requests::SPEC];

/// Builds the algorithm of that name.
pub(crate) fn build(name: AlgorithmName, weights: &[u32]) -> Box<dyn Algorithm> {
    let spec = ALGORITHMS.iter().find(|spec| spec.name == name).unwrap_or(&round_robin::SPEC);
    (spec.build)(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_configuration_has_an_algorithm() {
        for (word, name) in AlgorithmName::NAMES {
            assert!(ALGORITHMS.iter().any(|spec| spec.name == name), "{word}");
        }
    }
}
