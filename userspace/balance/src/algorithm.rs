//! The registry of algorithms: one line here, one file beside it.

use std::fmt::Debug;

use weir_model::AlgorithmName;

use crate::{
    Candidates, Member, consistent_hash, least_requests, maglev_pick, peak_ewma, random,
    round_robin,
};

/// Chooses among some backends of one upstream. Shared by all reactors: what it remembers is atomic.
pub trait Algorithm: Debug + Send + Sync {
    /// The index of the candidate that serves the next request, a usable one; `None` if there is none.
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize>;
}

/// What an algorithm is built from.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The backends, in the order of the candidates.
    pub members: &'a [Member],
    /// The most open requests of a backend in percent of its share; `None` is any number.
    pub hash_balance: Option<u32>,
}

impl Setting<'_> {
    /// The weights, in the order of the candidates.
    #[must_use]
    pub fn weights(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.weight).collect()
    }
}

/// What is known of an algorithm without building it.
#[derive(Debug)]
pub struct AlgorithmSpec {
    /// Its name in the configuration.
    pub name: AlgorithmName,
    /// One sentence for the reference.
    pub summary: &'static str,
    /// Builds it.
    pub build: fn(&Setting<'_>) -> Box<dyn Algorithm>,
}

/// Every algorithm.
pub static ALGORITHMS: &[AlgorithmSpec] = &[
    round_robin::SPEC,
    least_requests::SPEC,
    peak_ewma::SPEC,
    random::SPEC,
    consistent_hash::SPEC,
    maglev_pick::SPEC,
];

/// Builds the algorithm of that name.
pub(crate) fn build(name: AlgorithmName, setting: &Setting<'_>) -> Box<dyn Algorithm> {
    let spec = ALGORITHMS.iter().find(|spec| spec.name == name).unwrap_or(&round_robin::SPEC);
    (spec.build)(setting)
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
