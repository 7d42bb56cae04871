//! The packet path of VIPs beside a plain model of the same rules: a million random packets while tables
//! change.

mod model;
mod rewrite;
mod traffic;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use weir_l4::{Configured, Kernel, Pool, PoolMember, Wanted};
use weir_model::{Forward, HashBy, LogLevel, Protocol, Vip};
use weir_tests::world::{Bench, inside};
use weir_tests::{need, packet};

use model::Model;
use traffic::Random;

const PACKETS: usize = 1_000_000;
/// Times that the targets of every VIP change.
const CHANGES: usize = 12;
const SEED: u64 = 0x5EED_0004;

#[test]
fn a_million_random_packets_go_where_a_plain_model_says() {
    if !need::root() {
        return;
    }
    let bench = Bench::new().unwrap();
    inside(bench.name(), run).unwrap();
}

fn run() {
    let settings = weir_model::Kernel::default();
    let kernel = Kernel::load(&settings, None, LogLevel::Info).unwrap();
    kernel.configure(Configured::default()).unwrap();
    let mut random = Random(SEED);
    let (mut model, mut wanted) = (Model::default(), wanted());
    let mut seen = std::collections::BTreeMap::new();
    for change in 0..CHANGES {
        if change > 0 {
            wanted.pools.iter_mut().for_each(|pool| shuffle(pool, &mut random));
        }
        // What was remembered before a change is told from what is remembered after it by ticks.
        wait_for_a_new_tick();
        kernel.balance(&wanted, Instant::now()).unwrap();
        model.change(&wanted);
        let mut before = kernel.counters().unwrap();
        for number in 0..PACKETS / CHANGES {
            let packet = traffic::packet(&mut random, &model);
            let (expected, out) = model.run(&packet);
            let (_, got) = kernel.test_run(&packet).unwrap();
            let context =
                || format!("change {change}, packet {number} of seed {SEED:#x}: {packet:02x?}");
            // Of a packet that is dropped halfway nobody sees the bytes.
            let is_half = out.is_empty();
            assert!(
                is_half || got == out,
                "{expected}: {} {}",
                packet::difference(&out, &got),
                context()
            );
            *seen.entry(expected).or_insert(0usize) += 1;
            // Counters cost more than packets, so they are looked at now and then.
            if number % 5_000 == 0 {
                let after = kernel.counters().unwrap();
                before = check(&before, after, &mut seen, &context());
            }
        }
    }
    for reason in [
        "ipip",
        "gue",
        "l2",
        "nat",
        "nat_return",
        "pong",
        "too_big",
        "ttl_exceeded",
        "orphan_fragment",
        "icmp_mismatch",
        "spoofed",
        "clean",
        "malformed",
        "no_backend",
    ] {
        assert!(seen.get(reason).is_some_and(|count| *count > 100), "{reason} is rare: {seen:?}");
    }
}

/// So many packets ended with each reason as the model said.
fn check(
    before: &[weir_l4::Counter],
    after: Vec<weir_l4::Counter>,
    seen: &mut std::collections::BTreeMap<&'static str, usize>,
    context: &str,
) -> Vec<weir_l4::Counter> {
    let total: u64 = after.iter().map(|counter| counter.packets).sum();
    for counter in &after {
        let counted = seen.get(counter.reason).copied().unwrap_or(0) as u64;
        assert_eq!(counter.packets, counted, "{} of {total}: {context}", counter.reason);
    }
    assert_eq!(before.len(), after.len());
    after
}

fn wait_for_a_new_tick() {
    let tick = || {
        let now =
            clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from);
        now.as_nanos() >> weir_abi::vip::TICK_BITS
    };
    let start = tick();
    while tick() == start {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wanted() -> Wanted {
    let vip = |name: &str, ip: &str, port: u16, protocol, forward, hash, upstream| Vip {
        name: name.to_owned(),
        address: ip.parse().unwrap(),
        port: port.try_into().ok(),
        protocol,
        upstream,
        forward,
        hash,
        idle: Duration::from_secs(600),
    };
    let (tcp, udp, five) = (Protocol::Tcp, Protocol::Udp, HashBy::FiveTuple);
    let pool = |name: &str, base: &str| Pool {
        name: name.to_owned(),
        slow_start: Duration::ZERO,
        members: (1..=6)
            .map(|n| PoolMember {
                address: SocketAddr::new(format!("{base}{n}").parse().unwrap(), 8080),
                weight: 100,
                is_up: true,
                server_id: None,
            })
            .collect(),
    };
    Wanted {
        vips: vec![
            vip("a", "203.0.113.1", 80, tcp, Forward::Ipip, five, 0),
            vip("b", "203.0.113.1", 80, udp, Forward::Gue, five, 0),
            vip("c", "203.0.113.2", 0, tcp, Forward::Nat, five, 1),
            vip("d", "203.0.113.3", 53, udp, Forward::Nat, HashBy::Source, 1),
            vip("e", "2001:db8:f::1", 80, tcp, Forward::Ipip, five, 2),
            vip("f", "2001:db8:f::1", 80, udp, Forward::L2, five, 2),
            vip("g", "203.0.113.4", 80, tcp, Forward::Gue, HashBy::Source, 2),
            vip("h", "2001:db8:f::2", 53, udp, Forward::Nat, five, 2),
        ],
        pools: vec![pool("p", "10.9.0.1"), pool("q", "10.9.0.2"), pool("r", "fd09::1")],
        ..Wanted::default()
    }
}

/// Other weights, some down, sometimes all of them.
fn shuffle(pool: &mut Pool, random: &mut Random) {
    let all_down = random.below(8) == 0;
    for member in &mut pool.members {
        member.weight = [0, 50, 100, 100, 300][random.below(5)];
        member.is_up = !all_down && random.below(5) != 0;
    }
    if random.below(3) == 0 {
        let count = pool.members.len();
        pool.members.swap(0, random.below(count));
    }
    // One leaves, and may come back.
    if random.below(2) == 0 && pool.members.len() > 4 {
        pool.members.remove(random.below(pool.members.len()));
    } else if pool.members.len() < 6 {
        let base = pool.members[0].address;
        let fresh = (1..=6u16).find_map(|n| {
            let ip = match base.ip() {
                IpAddr::V4(ip) => {
                    let [a, b, c, d] = ip.octets();
                    IpAddr::from([a, b, c, d / 10 * 10 + n as u8])
                }
                IpAddr::V6(ip) => {
                    let mut segments = ip.segments();
                    segments[7] = 0x10 + n;
                    IpAddr::from(segments)
                }
            };
            let address = SocketAddr::new(ip, 8080);
            pool.members.iter().all(|member| member.address != address).then_some(address)
        });
        let address = fresh.unwrap();
        pool.members.push(PoolMember { address, weight: 100, is_up: true, server_id: None });
    }
}
