//! What the guard takes for a packet.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::Result;
use weir_l4::measure::Measured;
use weir_l4::{GuardSetting, Wanted};
use weir_model::{Forward, Guard, Protocol, SynGuard};
use weir_tests::flood::LINUX_OPTIONS;
use weir_tests::packet;
use weir_tests::world::{Bench, inside};

use crate::figure::Figure;

const REPEAT: u32 = 300_000;
/// More than that no table holds.
const SOURCES: u32 = 10_000_000;
/// As measured for the design on another machine of the kind: the raw helper with all options, and its check
/// of an ACK, nanoseconds over an empty program.
const COOKIE: f64 = 155.0;
const CHECK: f64 = 46.0;
const MORE: f64 = 1.15;

/// What is measured: name, program, packet, the goal in nanoseconds over the shell.
type Case = (&'static str, &'static str, String, Option<f64>);

pub(crate) fn run(rounds: u32) -> Result<Vec<Figure>> {
    let bench = Bench::new()?;
    inside(bench.name(), || measure(rounds))?
}

fn cases() -> [Case; 8] {
    let to = |address: &str, rest: &str| {
        let outer = if address.contains(':') { "ipv6 2001:db8:1::1" } else { "ipv4 198.18.0.1" };
        format!("eth > {outer} > {address} > tcp 1024 > {rest}")
    };
    let syn = format!("80 flags 02 ack 0 options {LINUX_OPTIONS}");
    let ack = syn.replace("flags 02", "flags 10");
    let reset = syn.replace("flags 02", "flags 04");
    let (own, own6) = ("10.9.1.1", "fd09::ffff");
    [
        ("the raw helper alone: a cookie", "raw_cookie", to(own, &syn), None),
        ("the raw helper alone: an ACK is checked", "raw_check", to(own, &ack), None),
        ("a cookie is answered", "syn", to(own, &syn), Some(COOKIE * MORE)),
        ("a cookie is answered, IPv6", "syn_v6", to(own6, &syn), Some(COOKIE * MORE)),
        ("a challenge is answered", "syn", to("203.0.113.1", &syn), Some(COOKIE * MORE)),
        (
            "an ACK of nobody is dropped: socket looked up, cookie checked",
            "syn",
            to(own, &ack),
            None,
        ),
        ("a reset of nobody is dropped", "syn", to(own, &reset), None),
        (
            "a packet of a source over its limit is dropped",
            "syn",
            to("203.0.113.99", &ack),
            Some(CHECK * MORE),
        ),
    ]
}

fn measure(rounds: u32) -> Result<Vec<Figure>> {
    let _listening = [TcpListener::bind("10.9.1.1:80")?, TcpListener::bind("[fd09::ffff]:80")?];
    let mut measured = Measured::load(1)?;
    let guard = Guard { syn: SynGuard::Always, ..Guard::default() };
    let limited = Guard { source_packet_rate: 1, ..guard.clone() };
    let listeners = vec![
        ("web".to_owned(), "10.9.1.1:80".parse()?),
        ("web".to_owned(), "[fd09::ffff]:80".parse()?),
    ];
    let vips = vec![crate::l4::vip("v", "203.0.113.1", Protocol::Tcp, Forward::Ipip, 0)?];
    let targets = std::iter::once("10.9.0.1:80".parse()?);
    let pools = vec![crate::l4::pool("p", targets)];
    let wanted = |guard: &Guard| Wanted {
        vips: vips.clone(),
        pools: pools.clone(),
        listeners: listeners.clone(),
        guard: guard.clone(),
        ..Wanted::default()
    };
    let (mut shells, cases) = (Vec::new(), cases());
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..=rounds {
        for (at, (name, program, text, _)) in cases.iter().enumerate() {
            let is_limited = name.contains("limit");
            measured.balance(&wanted(if is_limited { &limited } else { &guard }))?;
            measured.guard("web", GuardSetting::Auto);
            let packet = packet::build(text)?;
            measured.set_syn(&packet)?;
            let nothing = if *program == "syn_v6" { "syn_v6_nothing" } else { "syn_nothing" };
            let shell = measured.time(nothing, &packet, REPEAT)?;
            let took = measured.time(program, &packet, REPEAT)?;
            if round > 0 {
                times[at].push(took - shell);
                shells.push(shell);
            }
        }
    }
    let mut figures = vec![Figure::of("the shell that restores packets", shells, "ns")];
    for ((name, _, _, goal), times) in cases.into_iter().zip(times) {
        let figure = Figure::of(format!("{name}, over the shell"), times, "ns");
        figures.push(match goal {
            Some(goal) => figure.at_most(goal),
            None => figure,
        });
    }
    figures.extend(spoofed(&mut measured, &wanted(&limited))?);
    Ok(figures)
}

/// Many sources, each of which comes once.
fn spoofed(measured: &mut Measured, wanted: &Wanted) -> Result<Vec<Figure>> {
    let wanted = Wanted {
        guard: Guard { source_packet_rate: 100, ..wanted.guard.clone() },
        ..wanted.clone()
    };
    measured.balance(&wanted)?;
    measured.guard("web", GuardSetting::Auto);
    let text = format!(
        "eth > ipv4 198.18.0.1 > 203.0.113.1 > tcp 1024 > 80 flags 02 ack 0 options {LINUX_OPTIONS}"
    );
    let packet = packet::build(&text)?;
    measured.set_syn(&packet)?;
    let began = Instant::now();
    let took = measured.time("random_sources", &packet, SOURCES)?;
    let (heavy, proven) = measured.remembered_sources();
    anyhow::ensure!(began.elapsed() < Duration::from_secs(600), "too slow");
    Ok(vec![
        Figure::of("10M random sources under a limit and a challenge", vec![took], "ns"),
        Figure::of("sources that are remembered of them", vec![heavy as f64], "")
            .at_most(f64::from(weir_abi::guard::HEAVY_MAX)),
        Figure::of("sources that count as proven of them", vec![proven as f64], "").at_most(0.0),
    ])
}
