//! Packets through the embedded program by `BPF_PROG_TEST_RUN`.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use weir_abi::{Verdict, wire};
use weir_l4::{Configured, Counter, Decision, Kernel, Pool, PoolMember, Wanted};
use weir_model::{Ban, BanOrigin, Cidr, Forward, HashBy, LogLevel, Protocol, Vip};
use weir_tests::packet::Expected;
use weir_tests::world::{Bench, inside};
use weir_tests::{need, packet};

/// The program with this world, attached to nothing.
pub(crate) fn loaded(bans: &[Cidr], allowed: &[Cidr]) -> Kernel {
    let settings = weir_model::Kernel {
        bans: weir_model::Bans { capacity: 1_000, ..weir_model::Bans::default() },
        ..weir_model::Kernel::default()
    };
    let kernel = Kernel::load(&settings, None, LogLevel::Info).unwrap();
    kernel.configure(Configured::default()).unwrap();
    set(&kernel, bans, allowed);
    kernel
}

/// Makes this the world, whatever it was before.
fn set(kernel: &Kernel, bans: &[Cidr], allowed: &[Cidr]) {
    let before: Vec<_> = kernel.bans_after(None, 1_000).iter().map(|seen| seen.ban.cidr).collect();
    kernel.unban(&before).unwrap();
    kernel.disallow(&kernel.allowed()).unwrap();
    kernel.allow(allowed).unwrap();
    let ban = |&cidr| Ban::new(cidr, BanOrigin::Operator, SystemTime::now());
    kernel.ban(&bans.iter().map(ban).collect::<Vec<_>>()).unwrap();
}

/// Runs a packet: what it ended with, by the action and by the one counter that moved, and what came out.
pub(crate) fn run(kernel: &Kernel, packet: &[u8]) -> (String, String, Vec<u8>) {
    let before = kernel.counters().unwrap();
    let (action, out) = kernel.test_run(packet).unwrap();
    let after = kernel.counters().unwrap();
    let moved: Vec<&Counter> = after
        .iter()
        .zip(&before)
        .filter(|(after, before)| after.packets != before.packets)
        .map(|(after, _)| after)
        .collect();
    assert_eq!(moved.len(), 1, "one counter a packet: {moved:?}");
    let tagged =
        packet.get(12..14) == Some(&[0x81, 0]) || packet.get(12..14) == Some(&[0x88, 0xa8]);
    let expected = match moved[0].verdict {
        "drop" => 1,
        "pass" => 2,
        // Sent by another interface than the one of the test, or answered by the same.
        "send" if !tagged => 4,
        _ => 3,
    };
    assert_eq!(action, expected, "{:?}", moved[0]);
    (moved[0].verdict.to_owned(), moved[0].reason.to_owned(), out)
}

/// The VIPs of a case, each `ADDRESS:PORT/PROTOCOL FORWARD TARGET…`, or `listener ADDRESS:PORT`, `source CIDR`
/// and `hash source`.
pub(crate) fn wanted(lines: &[String]) -> Wanted {
    let mut wanted = Wanted::default();
    for (index, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "listener" => wanted.listeners.push((words[1].to_owned(), words[1].parse().unwrap())),
            "source" => wanted.tunnel.sources.push(words[1].parse().unwrap()),
            _ => {
                let (socket, protocol) = words[0].split_once('/').unwrap();
                let (ip, port) = socket.rsplit_once(':').unwrap();
                let word = |names: &[(&'static str, Forward)], word: &str| {
                    names.iter().find(|(name, _)| *name == word).unwrap().1
                };
                let is_tcp = protocol == "tcp";
                let hash = HashBy::NAMES.iter().find(|(name, _)| words.contains(name));
                wanted.vips.push(Vip {
                    name: format!("vip{index}"),
                    address: ip.trim_matches(['[', ']']).parse().unwrap(),
                    port: port.parse().ok(),
                    protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
                    upstream: wanted.pools.len(),
                    forward: word(&Forward::NAMES, words[1]),
                    hash: hash.map_or(HashBy::FiveTuple, |(_, hash)| *hash),
                    idle: Duration::from_secs(60),
                });
                let targets = words[2..].iter().filter_map(|word| {
                    let (word, id) = word.split_once('=').unwrap_or((word, ""));
                    let address = word.parse().ok()?;
                    Some(PoolMember {
                        address,
                        weight: 100,
                        is_up: true,
                        server_id: id.parse().ok(),
                    })
                });
                wanted.pools.push(Pool {
                    name: format!("pool{index} {line}"),
                    slow_start: Duration::ZERO,
                    members: targets.collect(),
                });
            }
        }
    }
    wanted
}

#[test]
fn every_case() {
    if !need::root() {
        return;
    }
    let bench = Bench::new().unwrap();
    inside(bench.name(), every_case_on_bench).unwrap();
}

fn every_case_on_bench() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/packet");
    let kernel = loaded(&[], &[]);
    let (mut count, mut of_vips, mut wrong) = (0, 0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let case = packet::case(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        set(&kernel, &case.bans, &case.allowed);
        // A VIP of the case before would keep its flows.
        kernel.balance(&Wanted::default(), Instant::now()).unwrap();
        kernel.balance(&wanted(&case.vips), Instant::now()).unwrap();
        for (index, expected) in case.packets.iter().enumerate() {
            let (verdict, reason, out) = run(&kernel, &expected.packet);
            if (&verdict, &reason) != (&expected.verdict, &expected.reason) {
                let Expected { verdict: wanted, reason: why, .. } = expected;
                wrong.push(format!(
                    "{name}, packet {index}: {wanted} {why}, got {verdict} {reason}"
                ));
            } else if out != expected.out {
                let shown = packet::difference(&expected.out, &out);
                wrong.push(format!("{name}, packet {index} ({verdict} {reason}): {shown}"));
            }
            count += 1;
            of_vips += usize::from(!case.vips.is_empty());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 180 && of_vips >= 120, "{count} packets, {of_vips} of them with VIPs");
}

/// The program in the kernel and the same parser with a plain model of bans on the host agree on
/// damaged packets.
#[test]
fn the_kernel_agrees_with_the_host_on_damaged_packets() {
    if !need::root() {
        return;
    }
    let bans: Vec<Cidr> = ["192.0.2.0/25", "10.0.0.0/8", "2001:db8::/32", "128.0.0.0/2"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let allowed: Vec<Cidr> =
        vec!["192.0.2.64/26".parse().unwrap(), "2001:db8::/64".parse().unwrap()];
    let kernel = loaded(&bans, &allowed);
    let seeds: Vec<Vec<u8>> = [
        "eth > ipv4 192.0.2.1 > 198.51.100.1 options 2 > tcp 1 > 2 > bytes 20",
        "eth > vlan 7 > ipv4 192.0.2.100 > 198.51.100.1 > udp 1 > 2 > bytes 20",
        "eth > ipv6 2001:db8::1 > 2001:db8:1::1 > ext hop > ext fragment > tcp 1 > 2 > bytes 20",
        "eth > vlan 7 outer > vlan 8 > ipv6 2001:db8:2::1 > 2001:db8:1::1 > ext dest > udp 1 > 2",
    ]
    .iter()
    .map(|text| packet::build(text).unwrap())
    .collect();
    let mut state = 0x0DD5_EED5_u64;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..20_000 {
        let mut packet = seeds[random(seeds.len())].clone();
        for _ in 0..random(4) {
            let at = random(packet.len());
            packet[at] = u8::try_from(random(256)).unwrap();
        }
        packet.truncate(14 + random(packet.len() - 13));
        let expected = on_host(&kernel, &packet);
        let (verdict, reason, out) = run(&kernel, &packet);
        assert_eq!(out, packet, "the program changes no packet that is for no VIP");
        let got = (verdict, reason);
        let expected = (expected.name().to_owned(), expected.reason().to_owned());
        assert_eq!(got, expected, "round {round}: {packet:02x?}");
    }
}

fn on_host(kernel: &Kernel, packet: &[u8]) -> Verdict {
    let flow = match wire::flow(&packet) {
        Ok(flow) => flow,
        Err(verdict) => return verdict,
    };
    let source = u128::from(flow.source.high) << 64 | u128::from(flow.source.low);
    let source = IpAddr::from(Ipv6Addr::from(source)).to_canonical();
    match kernel.test(source).0 {
        Decision::Banned(_) => Verdict::Drop(weir_abi::Drop::Banned),
        Decision::Allowed { banned_by: Some(_), .. } => Verdict::Pass(weir_abi::Pass::Allowed),
        _ if flow.shape == weir_abi::Shape::Unparsed => Verdict::Pass(weir_abi::Pass::Unparsed),
        _ => Verdict::Pass(weir_abi::Pass::Clean),
    }
}
