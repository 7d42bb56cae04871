//! The packet path of VIPs beside a plain model of the same rules: a million random packets while tables
//! change.

mod model;
mod rewrite;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use weir_l4::{Configured, Kernel, Pool, PoolMember, Wanted};
use weir_model::{Forward, HashBy, LogLevel, Protocol, Vip};
use weir_tests::world::{Bench, inside};
use weir_tests::{need, packet};

use model::Model;

const PACKETS: usize = 1_000_000;
/// Times that the targets of every VIP change.
const CHANGES: usize = 12;
const SEED: u64 = 0x5EED_0004;

const CLIENTS: [&str; 6] = [
    "192.0.2.1",
    "192.0.2.77",
    "192.0.2.200",
    "2001:db8:1::1",
    "2001:db8:1::ffff",
    "2001:db8:abcd::5",
];

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
            let packet = random_packet(&mut random, &model);
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

/// A packet for a VIP, from a backend behind one, about one, or for somebody else; one in five damaged.
fn random_packet(random: &mut Random, model: &Model) -> Vec<u8> {
    let pick = |random: &mut Random, of: &[&'static str]| of[random.below(of.len())];
    let is_v6 = random.below(2) == 0;
    let client = if is_v6 { CLIENTS[3 + random.below(3)] } else { CLIENTS[random.below(3)] };
    let vip = if is_v6 {
        pick(random, &["2001:db8:f::1", "2001:db8:f::1", "2001:db8:f::2", "2001:db8:f::3"])
    } else {
        pick(
            random,
            &[
                "203.0.113.1",
                "203.0.113.1",
                "203.0.113.2",
                "203.0.113.3",
                "203.0.113.4",
                "203.0.113.9",
            ],
        )
    };
    let port = pick(random, &["80", "80", "80", "53", "53", "443"]);
    let own = 1_024 + random.below(200);
    let ttl = [64, 64, 64, 64, 2, 1, 0, 255][random.below(8)];
    let ip = |from: &str, to: &str, ttl: usize, extra: &str| {
        if is_v6 {
            format!("ipv6 {from} > {to} hop {ttl}")
        } else {
            format!("ipv4 {from} > {to} ttl {ttl}{extra}")
        }
    };
    let size = [0, 1, 8, 8, 40, 1_400, 1_460][random.below(7)];
    let udp = format!("udp {own} > {port} > bytes {size}");
    let nosum = format!("udp {own} > {port} nosum > bytes {size}");
    let flags = pick(random, &["10", "10", "18", "02", "11", "04", "12"]);
    let tcp = format!("tcp {own} > {port} flags {flags} > bytes {size}");
    let transport = match random.below(5) {
        0 | 1 => tcp,
        2 | 3 => udp,
        _ => nosum,
    };
    let options = pick(random, &["", "", "", " options 1", " options 10", " tos 185"]);
    let body = match random.below(20) {
        0..=9 => format!("{} > {transport}", ip(client, vip, ttl, options)),
        10 => {
            let id = random.below(40);
            let first = random.below(2) == 0;
            match (is_v6, first) {
                (false, true) => {
                    format!("{} > {transport}", ip(client, vip, ttl, &format!(" id {id} mf")))
                }
                (false, false) => {
                    format!(
                        "{} > {transport}",
                        ip(client, vip, ttl, &format!(" id {id} fragment 5"))
                    )
                }
                (true, true) => format!(
                    "{} > ext fragment id {id} more > {transport}",
                    ip(client, vip, ttl, "")
                ),
                (true, false) => {
                    format!(
                        "{} > ext fragment id {id} offset 5 > {transport}",
                        ip(client, vip, ttl, "")
                    )
                }
            }
        }
        11 | 12 => {
            let Some(backend) = model.any_backend(is_v6, random.below(64)) else {
                return vec![0; 60];
            };
            let protocol = pick(random, &["tcp", "udp"]);
            let port = pick(random, &["8080", "80", "53", "443"]);
            let from = backend.to_string();
            format!(
                "{} > {protocol} {port} > {own} > bytes {}",
                ip(&from, client, ttl, options),
                size.min(40)
            )
        }
        13 | 14 => {
            let protocol = pick(random, &["tcp", "udp"]);
            let told = pick(random, &["203.0.113.1", "203.0.113.2", "203.0.113.4"]);
            let told = if is_v6 || random.below(3) > 0 { vip } else { told };
            let quoted = format!("{} > {protocol} {port} > {own}", ip(told, client, 50, options));
            let error = if is_v6 {
                format!("icmp6 {} 0 rest 1300", pick(random, &["1", "2", "3", "4", "128", "135"]))
            } else {
                format!("icmp {} 4 rest 1300", pick(random, &["3", "11", "12", "8", "13", "5"]))
            };
            let router = if is_v6 { "2001:db8:77::1" } else { "192.0.2.254" };
            format!("{} > {error} > {quoted}", ip(router, vip, ttl, ""))
        }
        15 if is_v6 => format!("{} > ext hop > ext dest > {transport}", ip(client, vip, ttl, "")),
        16 => format!("{} > {transport}", ip(vip, vip, ttl, "")),
        17 => {
            let echo = if is_v6 { "icmp6 128 0 rest 7" } else { "icmp 8 0 rest 7" };
            format!("{} > {echo} > bytes {}", ip(client, vip, ttl, ""), size.min(40))
        }
        _ => format!("{} > {transport}", ip(client, vip, ttl, "")),
    };
    let tags = pick(random, &["", "", "", "vlan 7 > ", "vlan 8 outer > vlan 7 > "]);
    let mut packet = packet::build(&format!("eth > {tags}{body}")).unwrap();
    if random.below(5) == 0 {
        for _ in 0..=random.below(3) {
            // Mostly in the headers.
            let at = random.below(packet.len().min(80));
            packet[at] = random.below(256) as u8;
        }
    }
    if random.below(40) == 0 {
        packet.truncate(14 + random.below(packet.len() - 13));
    }
    packet
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}
