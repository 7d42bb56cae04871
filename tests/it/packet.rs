//! Packets through the embedded program by `BPF_PROG_TEST_RUN`.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::SystemTime;

use weir_abi::{Verdict, wire};
use weir_l4::{Configured, Counter, Decision, Kernel};
use weir_model::{Ban, BanOrigin, Cidr, LogLevel};
use weir_tests::{need, packet};

/// The program with this world, attached to nothing.
fn loaded(bans: &[Cidr], allowed: &[Cidr]) -> Kernel {
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

/// Runs a packet: what it ended with, by the action and by the one counter that moved.
fn run(kernel: &Kernel, packet: &[u8]) -> (String, String) {
    let before = kernel.counters().unwrap();
    let (action, out) = kernel.test_run(packet).unwrap();
    assert_eq!(out, packet, "the program changes no packet");
    let after = kernel.counters().unwrap();
    let moved: Vec<&Counter> = after
        .iter()
        .zip(&before)
        .filter(|(after, before)| after.packets != before.packets)
        .map(|(after, _)| after)
        .collect();
    assert_eq!(moved.len(), 1, "one counter a packet: {moved:?}");
    let expected = if moved[0].verdict == "drop" { 1 } else { 2 };
    assert_eq!(action, expected, "{:?}", moved[0]);
    (moved[0].verdict.to_owned(), moved[0].reason.to_owned())
}

#[test]
fn every_case() {
    if !need::root() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/packet");
    let kernel = loaded(&[], &[]);
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let case = packet::case(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        set(&kernel, &case.bans, &case.allowed);
        for (index, (packet, verdict, reason)) in case.packets.iter().enumerate() {
            let got = run(&kernel, packet);
            if got != (verdict.clone(), reason.clone()) {
                wrong.push(format!("{name}, packet {index}: {verdict} {reason}, got {got:?}"));
            }
        }
        count += 1;
    }
    assert!(count >= 40, "{count} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
        let got = run(&kernel, &packet);
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
