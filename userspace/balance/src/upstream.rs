//! An upstream: a named set of backends and the algorithm that chooses among them.

use std::sync::Arc;

use crate::{Algorithm, Backend, BackendId, Health, algorithm};

/// A named set of backends with its algorithm and health policy. Shared by all reactors.
#[derive(Debug)]
pub struct Upstream {
    policy: weir_model::Upstream,
    backends: Vec<Arc<Backend>>,
    algorithm: Box<dyn Algorithm>,
}

/// Builds the run-time side of `upstreams`, in their order. A backend whose upstream and address
/// were in `previous` is the same one: health, counters and pooled connections live on. Nothing of
/// it changes before [`Upstream::activate`], so a plan may be thrown away.
#[must_use]
pub fn build(upstreams: &[weir_model::Upstream], previous: &[Arc<Upstream>]) -> Vec<Arc<Upstream>> {
    upstreams.iter().map(|policy| Arc::new(Upstream::new(policy, previous))).collect()
}

impl Upstream {
    fn new(policy: &weir_model::Upstream, previous: &[Arc<Self>]) -> Self {
        let before = previous.iter().find(|upstream| upstream.name() == policy.name);
        let backends: Vec<_> = policy
            .targets
            .iter()
            .map(|target| {
                let known = before.and_then(|upstream| {
                    upstream.backends.iter().find(|backend| backend.address() == target.address)
                });
                let new = || Arc::new(Backend::new(target.address, target.weight));
                known.map_or_else(new, Arc::clone)
            })
            .collect();
        let weights: Vec<_> = policy.targets.iter().map(|target| target.weight.value()).collect();
        let algorithm = algorithm::build(policy.algorithm, &weights);
        Self { policy: policy.clone(), backends, algorithm }
    }

    /// Gives backends that were there before what the new configuration says of them.
    pub fn activate(&self) {
        for (backend, target) in self.backends.iter().zip(&self.policy.targets) {
            backend.set_weight(target.weight);
            if self.policy.health.is_none() {
                // Nobody probes it any more, so nobody would bring it up again.
                backend.set_health(Health::Unknown);
            }
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.policy.name
    }

    /// What the configuration says of it.
    #[must_use]
    pub fn policy(&self) -> &weir_model::Upstream {
        &self.policy
    }

    /// Its backends, in the order of the configuration.
    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// The backend for the next request, none of those in `tried`; `None` if no other is usable.
    #[must_use]
    pub fn pick(&self, tried: &[BackendId]) -> Option<&Arc<Backend>> {
        let usable = |backend: &Backend| {
            backend.health() != Health::Down
                && backend.weight() > 0
                && !tried.contains(&backend.id())
        };
        let index = self.algorithm.pick(&self.backends, &usable)?;
        self.backends.get(index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::slice;

    use weir_model::{AlgorithmName, Target, Weight};

    use super::*;

    fn upstream(algorithm: AlgorithmName, weights: &[u16]) -> Upstream {
        let targets = weights
            .iter()
            .zip(1u16..)
            .map(|(&weight, port)| Target {
                address: ([127, 0, 0, 1], port).into(),
                weight: Weight(weight),
                server_id: None,
            })
            .collect();
        let name = "u".to_owned();
        Upstream::new(
            &weir_model::Upstream {
                name,
                algorithm,
                targets,
                health: None,
                slow_start: std::time::Duration::ZERO,
            },
            &[],
        )
    }

    /// How many of `picks` each port gets when every request ends at once.
    fn spread(upstream: &Upstream, picks: usize) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..picks {
            let backend = upstream.pick(&[]).expect("one is usable");
            *counts.entry(backend.address().port()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn both_algorithms_spread_by_weight_when_idle() {
        let upstream_2_1 = upstream(AlgorithmName::RoundRobin, &[200, 100]);
        assert_eq!(spread(&upstream_2_1, 300), [(1, 200), (2, 100)].into());
        let equal = upstream(AlgorithmName::LeastRequests, &[100, 100]);
        assert_eq!(spread(&equal, 300), [(1, 150), (2, 150)].into());
    }

    #[test]
    fn the_turns_of_a_backend_that_is_down_are_shared_out() {
        for (_, algorithm) in AlgorithmName::NAMES {
            let upstream = upstream(algorithm, &[100, 100, 100]);
            upstream.backends[1].set_health(Health::Down);
            let counts = spread(&upstream, 300);
            assert_eq!(counts.get(&2), None, "{algorithm:?}");
            assert!(counts.values().all(|&count| count == 150), "{algorithm:?} {counts:?}");
        }
    }

    #[test]
    fn a_backend_of_weight_0_gets_nothing() {
        for (_, algorithm) in AlgorithmName::NAMES {
            let upstream = upstream(algorithm, &[100, 0, 65_535]);
            assert_eq!(spread(&upstream, 1_000).get(&2), None, "{algorithm:?}");
        }
    }

    #[test]
    fn least_requests_weighs_open_requests() {
        let upstream = upstream(AlgorithmName::LeastRequests, &[300, 100]);
        let open: Vec<_> = (0..40).map(|_| upstream.pick(&[]).unwrap().open_request()).collect();
        assert_eq!(upstream.backends[0].open(), 30);
        assert_eq!(upstream.backends[1].open(), 10);
        drop(open);
        assert_eq!(upstream.backends[0].open(), 0);
    }

    #[test]
    fn a_tried_backend_is_not_picked_again() {
        for (_, algorithm) in AlgorithmName::NAMES {
            let upstream = upstream(algorithm, &[100, 100]);
            let first = upstream.pick(&[]).unwrap().id();
            assert_ne!(upstream.pick(&[first]).unwrap().id(), first);
            let all: Vec<_> = upstream.backends.iter().map(|backend| backend.id()).collect();
            assert!(upstream.pick(&all).is_none());
        }
    }

    #[test]
    fn a_reload_keeps_what_it_knows_of_a_backend() {
        let before = Arc::new(upstream(AlgorithmName::RoundRobin, &[100, 100]));
        before.backends[0].count_failure();
        let after = build(slice::from_ref(&before.policy), slice::from_ref(&before));
        assert_eq!(after[0].backends[0].id(), before.backends[0].id());
        assert_eq!(after[0].backends[0].failures(), 1);
        before.backends[0].set_health(Health::Down);
        let mut policy = before.policy.clone();
        policy.targets[0].weight = Weight(7);
        let planned = build(slice::from_ref(&policy), slice::from_ref(&before));
        assert_eq!(before.backends[0].weight(), 100, "a plan changes nothing");
        planned[0].activate();
        assert_eq!(before.backends[0].weight(), 7);
        assert_eq!(before.backends[0].health(), Health::Unknown);
    }
}
