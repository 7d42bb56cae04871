//! The decapsulator of backends, by `BPF_PROG_TEST_RUN`: what comes out of what goes in.

use weir_l4::Decapsulator;
use weir_tests::need;
use weir_tests::packet::{build, difference};

const PASS: u32 = 2;
const DROP: u32 = 1;
const PORT: u16 = 6_080;

/// A packet, what is done with it, and what it is then; without that it is as it was.
type Case = (&'static str, u32, Option<&'static str>, &'static str);

const CASES: [Case; 19] = [
    (
        "eth > ipv4 10.0.0.1 > 10.0.0.2 > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80 > bytes 5",
        PASS,
        Some("eth > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80 > bytes 5"),
        "ipip",
    ),
    (
        "eth > vlan 7 > ipv4 10.0.0.1 > 10.0.0.2 > ipv4 192.0.2.1 > 203.0.113.1 > udp 1 > 80",
        PASS,
        Some("eth > vlan 7 > ipv4 192.0.2.1 > 203.0.113.1 > udp 1 > 80"),
        "ipip",
    ),
    (
        "eth > vlan 8 outer > vlan 7 > ipv4 10.0.0.1 > 10.0.0.2 options 2 > ipv4 192.0.2.1 > 203.0.113.1 > udp 1 > 80",
        PASS,
        Some("eth > vlan 8 outer > vlan 7 > ipv4 192.0.2.1 > 203.0.113.1 > udp 1 > 80"),
        "ipip",
    ),
    (
        "eth > ipv6 fd00::1 > fd00::2 > ipv6 2001:db8::1 > 2001:db8:f::1 > tcp 1 > 80",
        PASS,
        Some("eth > ipv6 2001:db8::1 > 2001:db8:f::1 > tcp 1 > 80"),
        "ipip",
    ),
    (
        "eth > vlan 7 > ipv6 fd00::1 > fd00::2 > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80",
        PASS,
        Some("eth > vlan 7 > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80"),
        "ipip",
    ),
    (
        "eth > ipv4 10.0.0.1 > 10.0.0.2 > udp 50000 > 6080 nosum > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80",
        PASS,
        Some("eth > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80"),
        "gue",
    ),
    (
        "eth > ipv6 fd00::1 > fd00::2 > udp 50000 > 6080 nosum > ipv6 2001:db8::1 > 2001:db8:f::1 > tcp 1 > 80",
        PASS,
        Some("eth > ipv6 2001:db8::1 > 2001:db8:f::1 > tcp 1 > 80"),
        "gue",
    ),
    (
        "eth > ipv6 fd00::1 > fd00::2 > udp 50000 > 6080 nosum > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80",
        PASS,
        Some("eth > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80"),
        "gue",
    ),
    // Not for a VIP of this host: nobody smuggles packets in.
    (
        "eth > ipv4 10.0.0.1 > 10.0.0.2 > ipv4 192.0.2.1 > 127.0.0.1 > tcp 1 > 80",
        PASS,
        None,
        "foreign",
    ),
    (
        "eth > ipv4 10.0.0.1 > 10.0.0.2 > ipv4 192.0.2.1 > 203.0.113.2 > tcp 1 > 80",
        PASS,
        None,
        "foreign",
    ),
    // No encapsulation.
    ("eth > ipv4 10.0.0.1 > 10.0.0.2 > tcp 1 > 80", PASS, None, "plain"),
    ("eth > ipv4 10.0.0.1 > 10.0.0.2 > udp 1 > 6081 > bytes 60", PASS, None, "plain"),
    ("eth > ethertype 0806 > bytes 40", PASS, None, "plain"),
    (
        "eth > ipv4 10.0.0.1 > 10.0.0.2 fragment 3 > ipv4 192.0.2.1 > 203.0.113.1 > tcp 1 > 80",
        PASS,
        None,
        "plain",
    ),
    ("eth > ipv4 10.0.0.1 > 10.0.0.2 > udp 1 > 6080 > hex 0011 > bytes 60", PASS, None, "plain"),
    // What contradicts itself.
    ("eth > ipv4 10.0.0.1 > 10.0.0.2 > udp 1 > 6080", DROP, None, "malformed"),
    ("eth > ipv4 10.0.0.1 > 10.0.0.2 > udp 1 > 6080 > hex 45 > bytes 10", DROP, None, "malformed"),
    (
        "eth > ipv4 10.0.0.1 > 10.0.0.2 > ipv4 192.0.2.1 > 203.0.113.1 version 6 > tcp 1 > 80",
        DROP,
        None,
        "malformed",
    ),
    (
        "eth > ipv6 fd00::1 > fd00::2 > ipv6 2001:db8::1 > 2001:db8:f::1 version 4",
        DROP,
        None,
        "malformed",
    ),
];

#[test]
fn every_packet_comes_out_as_it_went_in() {
    if !need::root() {
        return;
    }
    let vips = ["203.0.113.1", "2001:db8:f::1"].map(|ip| ip.parse().unwrap());
    let mut decapsulator = Decapsulator::load(&vips, PORT).unwrap();
    let count = |decapsulator: &Decapsulator, name: &str| {
        let outcomes = decapsulator.outcomes().unwrap();
        outcomes.iter().find(|(known, _)| *known == name).unwrap().1
    };
    for (text, action, out, outcome) in CASES {
        let packet = build(text).unwrap();
        let expected = out.map_or_else(|| packet.clone(), |out| build(out).unwrap());
        let before = count(&decapsulator, outcome);
        let (done, got) = decapsulator.test_run(&packet).unwrap();
        assert_eq!(done, action, "{text}");
        assert!(got == expected, "{text}: {}", difference(&expected, &got));
        assert_eq!(count(&decapsulator, outcome), before + 1, "{text}: {outcome}");
    }
}

/// Damaged in any way it takes nothing out that was not in, and never more than is there.
#[test]
fn damaged_packets_are_left_or_dropped_whole() {
    if !need::root() {
        return;
    }
    let vips = ["203.0.113.1", "2001:db8:f::1"].map(|ip| ip.parse().unwrap());
    let mut decapsulator = Decapsulator::load(&vips, PORT).unwrap();
    let seeds: Vec<Vec<u8>> = CASES.iter().map(|(text, ..)| build(text).unwrap()).collect();
    let mut state = 0xDECA_u64;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let mut packet = seeds[random(seeds.len())].clone();
        for _ in 0..random(4) {
            let at = random(packet.len());
            packet[at] = random(256) as u8;
        }
        packet.truncate(14 + random(packet.len() - 13));
        let (_, out) = decapsulator.test_run(&packet).unwrap();
        // What is left is the Ethernet header and the packet's own end.
        let inner = out.len().saturating_sub(22).min(packet.len());
        assert!(out.len() <= packet.len(), "{packet:02x?}");
        assert_eq!(out[out.len() - inner..], packet[packet.len() - inner..], "{packet:02x?}");
    }
}
