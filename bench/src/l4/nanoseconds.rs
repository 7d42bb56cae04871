//! What a packet costs, whole, beside a program that does nothing.

use anyhow::Result;
use weir_l4::measure::Measured;
use weir_model::Forward;
use weir_tests::packet;
use weir_tests::world::{Bench, inside};

use super::one_vip;
use crate::figure::Figure;

/// Packets of one measurement.
const REPEAT: u32 = 500_000;

/// A kind of packet: name, text, program, how it is forwarded, flows, and the multiple that it is to cost
/// at most.
type Case = (&'static str, &'static str, &'static str, Forward, u32, f64);

const ACK: &str = "eth > ipv4 198.18.0.1 > 203.0.113.1 > tcp 40000 > 80 > bytes 100";
const SYN: &str = "eth > ipv4 198.18.0.1 > 203.0.113.1 > tcp 40000 > 80 flags 02 > bytes 100";
const UDP: &str = "eth > ipv4 198.18.0.1 > 203.0.113.1 > udp 40000 > 80 > bytes 100";
const ACK6: &str = "eth > ipv6 2001:db8:1::1 > 2001:db8::1 > tcp 40000 > 80 > bytes 100";
const OTHER: &str = "eth > ipv4 198.18.0.1 > 203.0.113.99 > tcp 40000 > 80 > bytes 100";

const CASES: [Case; 10] = [
    ("TCP over IPIP, 1 flow", ACK, "l4", Forward::Ipip, 1, 4.0),
    ("TCP over IPIP, 16,384 flows", ACK, "l4", Forward::Ipip, 1 << 14, 5.0),
    ("TCP over IPIP, 262,144 flows", ACK, "l4", Forward::Ipip, 1 << 18, 5.0),
    ("UDP over IPIP, 1 flow", UDP, "l4", Forward::Ipip, 1, 4.5),
    ("UDP over IPIP, 262,144 flows", UDP, "l4", Forward::Ipip, 1 << 18, 4.5),
    ("SYN over IPIP, 262,144 flows", SYN, "l4", Forward::Ipip, 1 << 18, 5.0),
    ("TCP over GUE, 262,144 flows", ACK, "l4", Forward::Gue, 1 << 18, 5.0),
    ("TCP by L2, 262,144 flows", ACK, "l4", Forward::L2, 1 << 18, 5.0),
    ("TCP by NAT, 16,384 flows", ACK, "l4", Forward::Nat, 1 << 14, f64::INFINITY),
    ("IPv6 TCP over IPIP, 262,144 flows", ACK6, "l4_v6", Forward::Ipip, 1 << 18, 5.0),
];

pub(crate) fn run(rounds: u32) -> Result<Vec<Figure>> {
    let bench = Bench::new()?;
    inside(bench.name(), || measure(rounds))?
}

fn measure(rounds: u32) -> Result<Vec<Figure>> {
    let mut measured = Measured::load(1)?;
    let other = packet::build(OTHER)?;
    let (mut empties, mut shells, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut cases: Vec<[Vec<f64>; 2]> = vec![<[Vec<f64>; 2]>::default(); CASES.len()];
    for round in 0..=rounds {
        let empty = measured.time("empty", &other, REPEAT)?;
        measured.set_packet(&packet::build(ACK)?, 1, 1)?;
        let shell = measured.time("l4_shell", &packet::build(ACK)?, REPEAT)?;
        measured.balance(&one_vip(Forward::Ipip)?)?;
        let plain = measured.time("l4_plain", &other, REPEAT)?;
        // The first round warms up.
        if round > 0 {
            empties.push(empty);
            shells.push(shell);
            others.push(plain / empty);
        }
        for ((_, text, program, forward, flows, _), [total, net]) in CASES.iter().zip(&mut cases) {
            measured.balance(&one_vip(*forward)?)?;
            let packet = packet::build(text)?;
            measured.set_packet(&packet, *flows, 1)?;
            let time = measured.time(program, &packet, REPEAT)?;
            if round > 0 {
                total.push(time / empty);
                net.push(time - shell);
            }
        }
    }
    let mut figures = vec![
        Figure::of("the empty program", empties, "ns"),
        Figure::of("the shell that restores packets", shells, "ns"),
        Figure::of("not for a VIP", others, "× empty").at_most(1.7),
    ];
    for ((name, .., goal), [total, net]) in CASES.iter().zip(cases) {
        let total = Figure::of(*name, total, "× empty");
        figures.push(if goal.is_finite() { total.at_most(*goal) } else { total });
        figures.push(Figure::of(format!("{name}, net of the shell"), net, "ns"));
    }
    Ok(figures)
}
