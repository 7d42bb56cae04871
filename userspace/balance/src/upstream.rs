//! An upstream: a named set of backends and the algorithm that chooses among them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_model::{AlgorithmName, PassiveCheck};

use crate::backend::Siblings;
use crate::outlier::ejected_max;
use crate::slots::Gate;
use crate::tiers::Tiers;
use crate::{
    Backend, BackendId, Choice, ConnectionSlot, Health, Outcome, PendingSlot, RequestSlot,
    peak_ewma,
};

/// A named set of backends with its algorithm and health policy. Shared by all reactors.
#[derive(Debug)]
pub struct Upstream {
    policy: weir_model::Upstream,
    backends: Vec<Arc<Backend>>,
    tiers: Tiers,
    /// The token of each backend with its index, in their order.
    tokens: Vec<(u64, usize)>,
    lasting: Arc<Lasting>,
}

/// What lives on over reloads.
#[derive(Debug, Default)]
struct Lasting {
    siblings: Arc<Siblings>,
    connections: Arc<Gate>,
    pending: Arc<Gate>,
    requests: Arc<Gate>,
    /// One ejection at a time, so that there are never too many.
    ejecting: Mutex<()>,
    /// Of weights and ejections: what choices follow from besides health.
    changes: AtomicU64,
}

/// Builds the run-time side of `upstreams`, in their order, for a host in `zone`. A backend whose
/// upstream and address were in `previous` is the same one: health, counters and pooled connections
/// live on. Nothing of it changes before [`Upstream::activate`], so a plan may be thrown away.
#[must_use]
pub fn build(
    upstreams: &[weir_model::Upstream],
    zone: Option<&str>,
    previous: &[Arc<Upstream>],
) -> Vec<Arc<Upstream>> {
    upstreams.iter().map(|policy| Arc::new(Upstream::new(policy, zone, previous))).collect()
}

impl Upstream {
    fn new(policy: &weir_model::Upstream, zone: Option<&str>, previous: &[Arc<Self>]) -> Self {
        let before = previous.iter().find(|upstream| upstream.name() == policy.name);
        let lasting = before.map(|before| Arc::clone(&before.lasting)).unwrap_or_default();
        let backend = |target: &weir_model::Target| {
            let siblings = Arc::clone(&lasting.siblings);
            let new = Backend::among(target.address, target.weight, siblings);
            let Some(before) = before else { return Arc::new(new) };
            let known = before.backends.iter().find(|known| known.address() == target.address);
            known.map_or_else(|| Arc::new(new.joining()), Arc::clone)
        };
        let backends: Vec<_> = policy.targets.iter().map(backend).collect();
        let tiers = Tiers::new(policy, zone, &backends, &lasting.siblings);
        let mut tokens: Vec<_> = backends.iter().map(|it| it.token()).zip(0..).collect();
        tokens.sort_unstable();
        Self { policy: policy.clone(), backends, tiers, tokens, lasting }
    }

    /// Gives backends that were there before what the new configuration says of them.
    pub fn activate(&self) {
        for (backend, target) in self.backends.iter().zip(&self.policy.targets) {
            backend.set_weight(target.weight);
            if self.policy.health.is_none() {
                // Nobody probes it any more, so nobody would bring it up again.
                backend.set_health(Health::Unknown);
            }
            if self.policy.passive.is_none() {
                backend.ejection.end_now();
            }
        }
        if self.policy.hash_balance.is_some() {
            self.lasting.siblings.count();
        }
        self.changed();
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

    /// The backend for the next request; `None` if none is usable that was not tried.
    #[must_use]
    pub fn pick(&self, choice: &Choice<'_>) -> Option<&Arc<Backend>> {
        self.sticky(choice).or_else(|| {
            let changes = self.lasting.changes.load(Ordering::Acquire);
            self.tiers.pick(choice, changes)
        })
    }

    /// The backend that the client stays with. It may be one of weight 0: that keeps what it has.
    fn sticky(&self, choice: &Choice<'_>) -> Option<&Arc<Backend>> {
        let token = choice.sticky?;
        let at = self.tokens.binary_search_by_key(&token, |(token, _)| *token).ok()?;
        let backend = self.backends.get(self.tokens.get(at)?.1)?;
        let is_usable = backend.is_usable(choice.now) && !choice.tried.contains(&backend.id());
        is_usable.then_some(backend)
    }

    /// Whether choices go by how long backends take.
    #[must_use]
    pub fn measures_latency(&self) -> bool {
        self.policy.algorithm == AlgorithmName::PeakEwma
    }

    /// Whether there is a backend besides these that may be picked.
    #[must_use]
    pub fn has_other(&self, than: &[BackendId], now: Duration) -> bool {
        let mut others = self.backends.iter().filter(|other| !than.contains(&other.id()));
        others.any(|other| other.weight() > 0 && other.is_usable(now))
    }

    /// Takes note of how one of its backends dealt with a request. If that ejects it, answers for how
    /// long.
    pub fn on_result(
        &self,
        backend: &Backend,
        outcome: Outcome,
        now: Duration,
    ) -> Option<Duration> {
        if self.measures_latency() {
            let latency = match outcome {
                Outcome::Success { latency } => latency,
                // It would have taken longer.
                Outcome::Overtaken { after } => after.max(backend.latency(now).unwrap_or_default()),
                Outcome::ServerError | Outcome::GatewayError | Outcome::LocalError => {
                    peak_ewma::FAILED
                }
            };
            backend.observe(latency, now);
        }
        let check = self.policy.passive.as_ref()?;
        // What it still answers to requests from before it was ejected counts for nothing.
        if backend.is_ejected(now) || !backend.ejection.is_due(check, outcome) {
            return None;
        }
        self.eject(backend, check, now)
    }

    /// Ejects a backend, unless too many are, or no other one could be picked.
    fn eject(&self, backend: &Backend, check: &PassiveCheck, now: Duration) -> Option<Duration> {
        // A panic of whoever had it has left nothing half done.
        let _alone = self.lasting.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if backend.is_ejected(now) {
            return None;
        }
        backend.ejection.forgive();
        let ejected = self.backends.iter().filter(|other| other.is_ejected(now)).count();
        let is_left = self.has_other(&[backend.id()], now);
        if !is_left || ejected >= ejected_max(check, self.backends.len()) {
            return None;
        }
        let length = backend.ejection.begin(check, now);
        self.changed();
        Some(length)
    }

    fn changed(&self) {
        // Who sees that something has changed sees also what.
        self.lasting.changes.fetch_add(1, Ordering::Release);
    }

    /// A place for one more connection to a backend, pooled ones included; `None` at the limit.
    #[must_use]
    pub fn try_connection(&self) -> Option<ConnectionSlot> {
        let slot = self.lasting.connections.enter(self.policy.limits.connections)?;
        Some(ConnectionSlot { _slot: slot })
    }

    /// A place for one more request that waits for a connection; `None` at the limit.
    #[must_use]
    pub fn try_pending(&self) -> Option<PendingSlot> {
        let slot = self.lasting.pending.enter(self.policy.limits.pending)?;
        Some(PendingSlot { _slot: slot })
    }

    /// A place for one more request; `None` at the limit. Without one they are not counted, as reactors
    /// that count at one place slow each other down.
    #[must_use]
    pub fn try_request(&self) -> Option<RequestSlot> {
        let slot = match self.policy.limits.requests {
            None => None,
            limit => Some(self.lasting.requests.enter(limit)?),
        };
        Some(RequestSlot { _slot: slot })
    }

    /// Open connections to its backends that have a place.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.lasting.connections.inside()
    }

    /// Requests that wait for a connection.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.lasting.pending.inside()
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use weir_model::{AlgorithmName, Target, UpstreamLimits, Weight};

    use super::*;

    fn upstream(algorithm: AlgorithmName, weights: &[u16]) -> Upstream {
        let target = |(port, &weight): (u16, &u16)| Target {
            weight: Weight(weight),
            ..Target::new(([127, 0, 0, 1], port).into())
        };
        let targets = (1..).zip(weights).map(target).collect();
        let policy = weir_model::Upstream { algorithm, ..weir_model::Upstream::new("u", targets) };
        Upstream::new(&policy, None, &[])
    }

    /// Any choice, another one for each number.
    fn choice<'a>(random: u64) -> Choice<'a> {
        Choice { random, ..Choice::default() }
    }

    #[test]
    fn least_requests_weighs_open_requests() {
        let upstream = upstream(AlgorithmName::LeastRequests, &[300, 100]);
        let pick = |random| upstream.pick(&choice(random)).unwrap().open_request();
        let open: Vec<_> = (0..40).map(pick).collect();
        assert_eq!(upstream.backends[0].open(), 30);
        assert_eq!(upstream.backends[1].open(), 10);
        drop(open);
        assert_eq!(upstream.backends[0].open(), 0);
    }

    #[test]
    fn a_tried_backend_is_not_picked_again() {
        for (_, algorithm) in AlgorithmName::NAMES {
            let upstream = upstream(algorithm, &[100, 100]);
            let first = upstream.pick(&choice(1)).unwrap().id();
            let tried = [first];
            let next = Choice { tried: &tried, ..choice(1) };
            assert_ne!(upstream.pick(&next).unwrap().id(), first);
            let all: Vec<_> = upstream.backends.iter().map(|backend| backend.id()).collect();
            assert!(upstream.pick(&Choice { tried: &all, ..choice(1) }).is_none());
        }
    }

    #[test]
    fn a_client_stays_with_the_backend_of_its_token_while_that_is_usable() {
        for (_, algorithm) in AlgorithmName::NAMES {
            let upstream = upstream(algorithm, &[100, 0, 100]);
            for backend in &upstream.backends {
                let sticky = Choice { sticky: Some(backend.token()), ..choice(9) };
                for _ in 0..10 {
                    assert_eq!(upstream.pick(&sticky).unwrap().id(), backend.id());
                }
                let tried = [backend.id()];
                let other = upstream.pick(&Choice { tried: &tried, ..sticky }).unwrap();
                assert_ne!(other.id(), backend.id());
                backend.set_health(Health::Down);
                assert_ne!(upstream.pick(&sticky).unwrap().id(), backend.id());
                backend.set_health(Health::Up);
            }
            let unknown = Choice { sticky: Some(1), ..choice(9) };
            assert!(upstream.pick(&unknown).is_some());
        }
    }

    #[test]
    fn who_is_overtaken_has_taken_longer_than_that() {
        let upstream = upstream(AlgorithmName::PeakEwma, &[100, 100]);
        let (backend, now) = (&upstream.backends[0], Duration::from_secs(1));
        let after = |after| Outcome::Overtaken { after: Duration::from_millis(after) };
        for (outcome, expected) in [(after(50), 50), (after(20), 50), (after(70), 70)] {
            assert_eq!(upstream.on_result(backend, outcome, now), None);
            let latency = backend.latency(now).unwrap().as_secs_f64();
            assert_eq!((latency * 1e3).round() as u64, expected, "{outcome:?}");
        }
    }

    #[test]
    fn another_backend_is_one_that_may_be_picked() {
        let upstream = upstream(AlgorithmName::RoundRobin, &[100, 0, 100]);
        let [first, drained, last] = &upstream.backends[..] else { panic!("three") };
        let has_other = |than: &[BackendId]| upstream.has_other(than, Duration::ZERO);
        assert!(has_other(&[first.id(), drained.id()]) && !has_other(&[first.id(), last.id()]));
        last.set_health(Health::Down);
        assert!(!has_other(&[first.id()]) && has_other(&[drained.id()]));
    }

    #[test]
    fn a_reload_keeps_what_it_knows_of_a_backend() {
        let before = Arc::new(upstream(AlgorithmName::RoundRobin, &[100, 100]));
        before.backends[0].count_failure();
        let after = build(slice::from_ref(&before.policy), None, slice::from_ref(&before));
        assert_eq!(after[0].backends[0].id(), before.backends[0].id());
        assert_eq!(after[0].backends[0].failures(), 1);
        before.backends[0].set_health(Health::Down);
        let mut policy = before.policy.clone();
        policy.targets[0].weight = Weight(7);
        let planned = build(slice::from_ref(&policy), None, slice::from_ref(&before));
        assert_eq!(before.backends[0].weight(), 100, "a plan changes nothing");
        planned[0].activate();
        assert_eq!(before.backends[0].weight(), 7);
        assert_eq!(before.backends[0].health(), Health::Unknown);
    }

    #[test]
    fn limits_hold_over_reloads() {
        let limited = |connections| {
            let limits = UpstreamLimits {
                connections: Some(connections),
                pending: Some(1),
                requests: Some(2),
            };
            weir_model::Upstream { limits, ..upstream(AlgorithmName::RoundRobin, &[1]).policy }
        };
        let before = build(&[limited(2)], None, &[]);
        let open: Vec<_> = (0..5).filter_map(|_| before[0].try_connection()).collect();
        assert_eq!(open.len(), 2);
        let after = build(&[limited(3)], None, &before);
        let more: Vec<_> = (0..5).filter_map(|_| after[0].try_connection()).collect();
        assert_eq!((more.len(), before[0].connections()), (1, 3));
        drop(open);
        assert_eq!(after[0].connections(), 1);
        let waiting = after[0].try_pending();
        assert!(waiting.is_some() && before[0].try_pending().is_none());
        let requests: Vec<_> = (0..5).filter_map(|_| after[0].try_request()).collect();
        assert_eq!(requests.len(), 2);
    }
}
