//! Every algorithm, for many requests at backends that come, go and slow down: what must hold at any
//! time. Seeded, so a failure comes again; `WEIR_SEED` tries another one.
#![expect(clippy::unwrap_used, reason = "a test whose premise fails has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_balance::{Backend, Choice, Health, OpenRequest, Outcome, Upstream, build, hash};
use weir_model::{AlgorithmName, PassiveCheck, Target, Weight};

const SEED: u64 = 0x5EED;

/// Xorshift.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(SEED);
        println!("WEIR_SEED={seed}");
        Self(hash(&u64::to_le_bytes(seed)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        hash(&self.0.to_le_bytes())
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn target(index: usize, weight: u16) -> Target {
    let ip = [10, 0, (index >> 8) as u8, index as u8];
    Target { weight: Weight(weight), ..Target::new((ip, 80).into()) }
}

fn policy(algorithm: AlgorithmName, weights: &[u16]) -> weir_model::Upstream {
    let targets = weights.iter().enumerate().map(|(index, &weight)| target(index, weight));
    weir_model::Upstream { algorithm, ..weir_model::Upstream::new("u", targets.collect()) }
}

fn upstream(policy: &weir_model::Upstream) -> Arc<Upstream> {
    build(std::slice::from_ref(policy), None, &[]).remove(0)
}

/// The index of a backend.
fn position(upstream: &Upstream, backend: &Backend) -> usize {
    upstream.backends().iter().position(|other| other.id() == backend.id()).unwrap()
}

/// How many of `picks` requests each backend gets; they end at once.
fn spread(upstream: &Upstream, picks: usize, now: Duration, random: &mut Random) -> Vec<usize> {
    let mut counts = vec![0; upstream.backends().len()];
    for _ in 0..picks {
        let choice = Choice { now, random: random.next(), ..Choice::default() };
        counts[position(upstream, upstream.pick(&choice).unwrap())] += 1;
    }
    counts
}

#[test]
fn whoever_is_picked_is_usable_and_whoever_is_usable_is_found() {
    let random = &mut Random::new();
    for round in 0..300 {
        let (_, algorithm) = AlgorithmName::NAMES[round % AlgorithmName::NAMES.len()];
        let count = 1 + random.below(12);
        let weights: Vec<_> = (0..count).map(|_| [0, 1, 100, 300][random.below(4)]).collect();
        let mut policy = policy(algorithm, &weights);
        for target in &mut policy.targets {
            target.priority = random.below(3) as u8;
            target.zone = [None, Some("a"), Some("b")][random.below(3)].map(str::to_owned);
        }
        policy.hash_balance = [None, Some(125)][random.below(2)];
        policy.slow_start = Duration::from_secs(random.below(2) as u64 * 20);
        policy.passive = Some(PassiveCheck { consecutive_errors: 2, ..PassiveCheck::default() });
        let upstream = build(&[policy], Some("a"), &[]).remove(0);
        upstream.activate();
        run(&upstream, random);
    }
}

/// Requests begin and end, backends fail and recover.
fn run(upstream: &Upstream, random: &mut Random) {
    let (mut now, mut open): (Duration, Vec<OpenRequest>) = (Duration::ZERO, Vec::new());
    let backends = upstream.backends();
    for _ in 0..300 {
        now += Duration::from_millis(random.below(500) as u64);
        let any = &backends[random.below(backends.len())];
        match random.below(12) {
            0 => any.set_health(Health::Down),
            1 => any.set_health(Health::Up),
            2 => drop(upstream.on_result(any, Outcome::GatewayError, now)),
            3 | 4 if !open.is_empty() => {
                let ended = open.swap_remove(random.below(open.len()));
                let latency = Duration::from_millis(random.below(1_000) as u64);
                let _ = upstream.on_result(ended.backend(), Outcome::Success { latency }, now);
            }
            _ => {}
        }
        let ejected = backends.iter().filter(|backend| backend.is_ejected(now)).count();
        assert!(ejected <= (backends.len() / 2).max(usize::from(backends.len() > 1)));
        let tried: Vec<_> = (0..random.below(3)).map(|_| any.id()).collect();
        let hash = [None, Some(random.next())][random.below(2)];
        let choice = Choice { tried: &tried, hash, sticky: None, now, random: random.next() };
        let is_usable = |backend: &Backend| {
            backend.health() != Health::Down
                && backend.weight() > 0
                && !backend.is_ejected(now)
                && !tried.contains(&backend.id())
        };
        match upstream.pick(&choice) {
            Some(picked) => {
                assert!(is_usable(picked), "{:?}", upstream.policy());
                open.push(picked.open_request());
            }
            None => assert!(!backends.iter().any(|it| is_usable(it)), "{:?}", upstream.policy()),
        }
    }
}

#[test]
fn shares_are_as_weights() {
    let random = &mut Random::new();
    for (word, algorithm) in AlgorithmName::NAMES {
        for weights in
            [&[100, 100][..], &[300, 100], &[1, 2, 3, 4, 5, 6], &[100; 20], &[7, 0, 65_535, 9_999]]
        {
            let upstream = upstream(&policy(algorithm, weights));
            let counts = spread(&upstream, 40_000, Duration::ZERO, random);
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (count, weight) in counts.iter().zip(weights) {
                let expected = 40_000.0 * f64::from(*weight) / total;
                let allowed = match algorithm {
                    // Weights are rounded to turns of a round, and to points of a ring.
                    AlgorithmName::RoundRobin => expected * 0.01 + 11.0,
                    AlgorithmName::ConsistentHash => expected * 0.25 + 160.0,
                    _ => expected * 0.02 + 5.0 * expected.sqrt(),
                };
                assert!(
                    (*count as f64 - expected).abs() <= allowed,
                    "{word} {weights:?}: {counts:?}"
                );
            }
        }
    }
}

#[test]
fn the_share_of_one_that_is_down_goes_to_the_others_by_weight() {
    let random = &mut Random::new();
    for (word, algorithm) in AlgorithmName::NAMES {
        let upstream = upstream(&policy(algorithm, &[100, 100, 200, 100, 100, 100]));
        upstream.backends()[1].set_health(Health::Down);
        let counts = spread(&upstream, 60_000, Duration::ZERO, random);
        for (index, expected) in [10_000.0, 0.0, 20_000.0, 10_000.0].into_iter().enumerate() {
            let error = (counts[index] as f64 - expected).abs();
            assert!(error <= 0.35 * expected, "{word}: {counts:?}");
        }
    }
}

#[test]
fn turns_are_exact_over_threads() {
    let upstream = upstream(&policy(AlgorithmName::RoundRobin, &[300, 200, 100]));
    let counts = std::thread::scope(|scope| {
        let upstream = &upstream;
        let count =
            move |thread: u64| spread(upstream, 3_000, Duration::ZERO, &mut Random(thread + 1));
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || count(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).fold(vec![0; 3], |sum, counts| {
            sum.iter().zip(&counts).map(|(sum, count)| sum + count).collect()
        })
    });
    assert_eq!(counts, [12_000, 8_000, 4_000]);
}

#[test]
fn the_fewest_requests_stay_even_under_load() {
    let random = &mut Random::new();
    let upstream = upstream(&policy(AlgorithmName::LeastRequests, &[100; 50]));
    let mut open = Vec::new();
    for step in 0..20_000 {
        let choice = Choice { random: random.next(), ..Choice::default() };
        open.push(upstream.pick(&choice).unwrap().open_request());
        if step >= 5_000 {
            open.swap_remove(random.below(open.len()));
        }
    }
    let opens = || upstream.backends().iter().map(|backend| backend.open());
    // At random it would be 70 to 130 of 100.
    assert!(opens().min().unwrap() >= 90 && opens().max().unwrap() <= 110);
}

#[test]
fn a_slow_backend_gets_less_by_peak_ewma_and_more_once_it_is_fast() {
    let random = &mut Random::new();
    let upstream = upstream(&policy(AlgorithmName::PeakEwma, &[100; 5]));
    let mut share_of_first = |slow: u64, from: u64| {
        let mut counts = [0; 5];
        // A request a millisecond; they are open as long as they take.
        let mut open: BTreeMap<(Duration, usize), (Duration, OpenRequest)> = BTreeMap::new();
        for step in 0..20_000 {
            let now = Duration::from_millis(from + step as u64);
            while let Some(first) = open.first_entry().filter(|first| first.key().0 <= now) {
                let (latency, request) = first.remove();
                let outcome = Outcome::Success { latency };
                let _ = upstream.on_result(request.backend(), outcome, now);
            }
            let choice = Choice { now, random: random.next(), ..Choice::default() };
            let backend = upstream.pick(&choice).unwrap();
            let index = position(&upstream, backend);
            let latency = Duration::from_millis(if index == 0 { slow } else { 10 });
            open.insert((now + latency, step), (latency, backend.open_request()));
            counts[index] += 1;
        }
        f64::from(counts[0]) / 20_000.0
    };
    let slow = share_of_first(200, 0);
    assert!(slow < 0.05, "{slow}");
    let fast = share_of_first(10, 80_000);
    assert!((0.15..0.25).contains(&fast), "{fast}");
}

#[test]
fn keys_stay_where_they_are_when_targets_change() {
    for algorithm in [AlgorithmName::ConsistentHash, AlgorithmName::Maglev] {
        let weights: Vec<u16> = (0..20).map(|index| 100 + index * 10).collect();
        let (keys, before) = (20_000, upstream(&policy(algorithm, &weights)));
        let home = |upstream: &Upstream, key: u64| {
            let choice = Choice { hash: Some(hash(&key.to_le_bytes())), ..Choice::default() };
            upstream.pick(&choice).unwrap().address()
        };
        let homes: Vec<_> = (0..keys).map(|key| home(&before, key)).collect();
        let moved = |upstream: &Upstream| {
            (0..keys).zip(&homes).filter(|(key, address)| home(upstream, *key) != **address).count()
        };
        assert_eq!(moved(&upstream(&policy(algorithm, &weights))), 0, "after a restart");
        // One is down: its keys move, and no others; then they come back.
        let lost = before.backends()[5].address();
        before.backends()[5].set_health(Health::Down);
        assert_eq!(moved(&before), homes.iter().filter(|home| **home == lost).count());
        before.backends()[5].set_health(Health::Up);
        assert_eq!(moved(&before), 0);
        // One of 21 is new, and one of 20 gone.
        let mut more = policy(algorithm, &weights);
        more.targets.push(target(99, 200));
        let (few, new) = (moved(&upstream(&more)) as f64, 200.0 / 4_100.0 * keys as f64);
        assert!(few <= 1.5 * new, "{algorithm:?}: {few} moved for {new}");
        let mut less = policy(algorithm, &weights);
        less.targets.remove(7);
        let (few, gone) = (moved(&upstream(&less)) as f64, 170.0 / 3_900.0 * keys as f64);
        assert!(few <= 1.5 * gone, "{algorithm:?}: {few} moved for {gone}");
    }
}

#[test]
fn nobody_gets_more_than_the_bound_of_its_share() {
    let random = &mut Random::new();
    let mut policy = policy(AlgorithmName::ConsistentHash, &[100, 200, 100, 100, 300, 100, 100]);
    policy.hash_balance = Some(125);
    let upstream = upstream(&policy);
    upstream.activate();
    let (mut open, mut at_home) = (Vec::new(), 0);
    for step in 0..30_000 {
        if step % 5_000 == 4_999 {
            let any = &upstream.backends()[random.below(7)];
            any.set_health(if any.health() == Health::Down { Health::Up } else { Health::Down });
        }
        // Three keys in ten are the same one.
        let key = if random.below(10) < 3 { 7 } else { random.next() };
        let choice = Choice { hash: Some(key), ..Choice::default() };
        let picked = upstream.pick(&choice).unwrap();
        let usable = upstream.backends().iter().filter(|it| it.health() != Health::Down);
        let weight: u32 = usable.map(|backend| backend.weight()).sum();
        let share = 1.25 * (open.len() + 1) as f64 * f64::from(picked.weight()) / f64::from(weight);
        assert!(
            f64::from(picked.open() + 1) <= (share - 1e-6).ceil(),
            "{picked:?} of {}",
            open.len()
        );
        at_home += usize::from(key == 7 && position(&upstream, picked) == 0);
        open.push(picked.open_request());
        while open.len() > 700 {
            open.swap_remove(random.below(open.len()));
        }
    }
    assert!(at_home < 9_000);
}

#[test]
fn a_backend_that_came_up_grows_to_its_share() {
    let random = &mut Random::new();
    for (word, algorithm) in AlgorithmName::NAMES {
        let mut policy = policy(algorithm, &[100; 5]);
        policy.slow_start = Duration::from_secs(100);
        let upstream = upstream(&policy);
        let second = Duration::from_secs;
        let share = |now, random: &mut Random| {
            spread(&upstream, 10_000, second(now), random)[0] as f64 / 10_000.0
        };
        let full = share(1, random);
        assert!((0.14..0.26).contains(&full), "{word} at the start: {full}");
        upstream.backends()[0].set_health(Health::Down);
        assert_eq!(share(2, random), 0.0, "{word}");
        upstream.backends()[0].set_health(Health::Up);
        // A tenth of its weight, then a half, then all of it.
        for (now, ramp) in [(1_000, 0.1), (1_050, 0.55), (1_100, 1.0), (9_000, 1.0)] {
            let found = share(now, random);
            let expected = full * ramp / (1.0 - full + full * ramp);
            assert!((found - expected).abs() <= 0.02, "{word} at {now}: {found} of {expected}");
        }
    }
}

#[test]
fn a_backend_that_a_reload_adds_grows_to_its_share() {
    let random = &mut Random::new();
    let mut policy = policy(AlgorithmName::RoundRobin, &[100]);
    policy.slow_start = Duration::from_secs(100);
    let before = [upstream(&policy)];
    policy.targets.push(target(1, 100));
    let after = build(&[policy], None, &before).remove(0);
    after.activate();
    let counts = spread(&after, 11_000, Duration::from_secs(5), random);
    assert!((700..1_300).contains(&counts[1]), "{counts:?}");
    let counts = spread(&after, 10_000, Duration::from_secs(106), random);
    assert_eq!(counts, [5_000, 5_000]);
}

#[test]
fn lower_priorities_take_what_higher_ones_cannot() {
    let random = &mut Random::new();
    for (word, algorithm) in AlgorithmName::NAMES {
        let mut policy = policy(algorithm, &[100; 8]);
        policy.targets[4..].iter_mut().for_each(|target| target.priority = 1);
        policy.passive = Some(PassiveCheck { consecutive_errors: 1, ..PassiveCheck::default() });
        let upstream = upstream(&policy);
        let spilled = |now, random: &mut Random| {
            let counts = spread(&upstream, 10_000, Duration::from_secs(now), random);
            (counts[4..].iter().sum::<usize>() as f64 / 100.0).round()
        };
        assert_eq!(spilled(0, random), 0.0, "{word}");
        upstream.backends()[0].set_health(Health::Down);
        assert_eq!(spilled(0, random), 0.0, "{word}: 105 % are left");
        let failed = upstream.backends()[1].as_ref();
        assert!(upstream.on_result(failed, Outcome::LocalError, Duration::ZERO).is_some());
        let half = spilled(1, random);
        assert!((27.0..=33.0).contains(&half), "{word}: {half}");
        assert_eq!(spilled(31, random), 0.0, "{word}: the ejection has ended");
        (0..4).for_each(|index| upstream.backends()[index].set_health(Health::Down));
        assert_eq!(spilled(31, random), 100.0, "{word}");
    }
}

#[test]
fn backends_of_this_zone_are_preferred() {
    let random = &mut Random::new();
    let mut policy = policy(AlgorithmName::RoundRobin, &[100; 6]);
    for (target, zone) in policy.targets.iter_mut().zip(["a", "a", "b", "b", "b", "b"]) {
        target.zone = Some(zone.to_owned());
    }
    let policies = [policy];
    let here = build(&policies, Some("a"), &[]).remove(0);
    assert_eq!(spread(&here, 600, Duration::ZERO, random), [300, 300, 0, 0, 0, 0]);
    here.backends()[1].set_health(Health::Down);
    let counts = spread(&here, 10_000, Duration::ZERO, random);
    assert!((6_700..7_300).contains(&counts[0]), "{counts:?}");
    let nowhere = build(&policies, None, &[]).remove(0);
    assert_eq!(spread(&nowhere, 600, Duration::ZERO, random), [100; 6]);
}

#[test]
fn ejections_grow_shrink_and_have_a_bound() {
    let check = PassiveCheck {
        consecutive_errors: 3,
        consecutive_gateway_errors: Some(2),
        max_ejection: Duration::from_secs(70),
        ..PassiveCheck::default()
    };
    let ok = Outcome::Success { latency: Duration::from_millis(1) };
    let (server, gateway, local) =
        (Outcome::ServerError, Outcome::GatewayError, Outcome::LocalError);
    let policy = weir_model::Upstream {
        passive: Some(check),
        ..policy(AlgorithmName::RoundRobin, &[100; 4])
    };
    let upstream = upstream(&policy);
    let backends = upstream.backends();
    // At a second, outcomes of one backend, and for how long the last of them ejects it.
    for (now, index, outcomes, expected) in [
        (0, 0, &[server, server, ok, server, server][..], None),
        (0, 0, &[server], Some(30)),
        (10, 0, &[server, server, server], None),
        (30, 0, &[gateway, server, gateway], Some(60)),
        (90, 0, &[local, gateway], Some(70)),
        (161, 0, &[local, gateway], Some(70)),
        // The count was 4; after 20 s in use it is 2, and then 3.
        (251, 0, &[local, local], Some(70)),
        // After 30 s it is none.
        (1_000, 0, &[local, local], Some(30)),
        (1_001, 1, &[local, local], Some(30)),
        (1_002, 2, &[local, local], None),
        (1_030, 2, &[local, local], Some(30)),
    ] {
        let now = Duration::from_secs(now);
        let result = |_, it: &Outcome| upstream.on_result(&backends[index], *it, now);
        let found = outcomes.iter().fold(None, result).map(|length| length.as_secs());
        assert_eq!(found, expected, "{outcomes:?} of {index} at {now:?}");
    }
    assert_eq!(backends[0].ejections(), 6);
    assert!(backends[2].is_ejected(Duration::from_secs(1_059)));
    assert!(!backends[2].is_ejected(Duration::from_secs(1_060)));
}

#[test]
fn the_last_usable_backend_is_not_ejected() {
    let passive = Some(PassiveCheck { max_ejected: 100, ..PassiveCheck::default() });
    for (count, down, expected) in [(1, 0, 0), (2, 0, 1), (3, 0, 2), (3, 1, 1), (3, 2, 0)] {
        let weights = vec![100; count];
        let policy = weir_model::Upstream { passive, ..policy(AlgorithmName::Random, &weights) };
        let upstream = upstream(&policy);
        upstream.backends()[..down].iter().for_each(|backend| backend.set_health(Health::Down));
        for backend in &upstream.backends()[down..] {
            (0..20).for_each(|_| {
                let _ = upstream.on_result(backend, Outcome::LocalError, Duration::ZERO);
            });
        }
        let ejected = upstream.backends().iter().filter(|it| it.is_ejected(Duration::ZERO));
        assert_eq!(ejected.count(), expected, "{down} of {count} down");
        assert!(upstream.pick(&Choice::default()).is_some());
    }
}

#[test]
fn no_more_than_allowed_are_ejected_by_threads_at_the_same_time() {
    let passive = Some(PassiveCheck { consecutive_errors: 1, ..PassiveCheck::default() });
    for _ in 0..50 {
        let policy = weir_model::Upstream { passive, ..policy(AlgorithmName::Random, &[100; 9]) };
        let upstream = upstream(&policy);
        std::thread::scope(|scope| {
            for backend in upstream.backends() {
                scope.spawn(|| upstream.on_result(backend, Outcome::LocalError, Duration::ZERO));
            }
        });
        let ejected = upstream.backends().iter().filter(|it| it.is_ejected(Duration::ZERO));
        assert_eq!(ejected.count(), 4);
    }
}

#[test]
fn threads_that_choose_while_backends_come_and_go_always_find_the_one_that_stays() {
    for (word, algorithm) in AlgorithmName::NAMES {
        let mut policy = policy(algorithm, &[100; 6]);
        policy.targets[3..].iter_mut().for_each(|target| target.priority = 1);
        policy.hash_balance = Some(125);
        policy.passive = Some(PassiveCheck { consecutive_errors: 1, ..PassiveCheck::default() });
        policy.slow_start = Duration::from_millis(50);
        let upstream = upstream(&policy);
        upstream.activate();
        let (stays, others) = upstream.backends().split_last().unwrap();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let upstream = &upstream;
                scope.spawn(move || {
                    let mut random = Random(thread);
                    for step in 0..5_000 {
                        let now = Duration::from_millis(step);
                        let choice = Choice { now, random: random.next(), ..Choice::default() };
                        let open = upstream.pick(&choice).expect(word).open_request();
                        if open.backend().id() != stays.id() && random.below(10) == 0 {
                            let _ = upstream.on_result(open.backend(), Outcome::LocalError, now);
                        }
                        let other = &others[random.below(others.len())];
                        other.set_health([Health::Down, Health::Up][random.below(2)]);
                    }
                });
            }
        });
        assert!(upstream.backends().iter().all(|backend| backend.open() == 0), "{word}");
    }
}
