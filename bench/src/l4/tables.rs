//! Tables: how long they take to build and to load, how much changes when a backend goes.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use weir_abi::vip::SLOTS;
use weir_balance::{Member, maglev};
use weir_l4::Wanted;
use weir_l4::measure::Measured;
use weir_model::{Forward, Protocol};
use weir_tests::packet;
use weir_tests::world::{Bench, inside};

use super::{one_vip, pool, vip};
use crate::figure::Figure;

const VIPS: u32 = 10_000;
/// Backends of each VIP, drawn from 16,000.
const BACKENDS: u32 = 100;
/// VIPs that packets are for: the next power of two below.
const VIPS_HIT: u32 = 8_192;
/// Of a flow that is remembered: key and value.
const FLOW_BYTES: usize = 48;
const REPEAT: u32 = 500_000;

pub(crate) fn run(rounds: u32) -> Result<Vec<Figure>> {
    let bench = Bench::new()?;
    let mut figures = build(rounds)?;
    figures.extend(inside(bench.name(), || load(rounds))??);
    Ok(figures)
}

fn build(rounds: u32) -> Result<Vec<Figure>> {
    let member = |n: u32| Member { address: backend(n), weight: 100, is_down: false };
    let thousand: Vec<Member> = (0..1_000).map(member).collect();
    let mut took = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        maglev(&thousand, SLOTS).context("a table")?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let mut hundred: Vec<Member> = (0..100).map(member).collect();
    let before = maglev(&hundred, SLOTS).context("a table")?;
    let (mut down, mut removed) = (Vec::new(), Vec::new());
    for index in 0..hundred.len() {
        let changed = |members: &[Member]| -> Result<f64> {
            let after = maglev(members, SLOTS).context("a table")?;
            let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
            Ok(changed.count() as f64 * 100.0 / f64::from(SLOTS))
        };
        let kept = hundred[index];
        hundred[index].is_down = true;
        down.push(changed(&hundred)?);
        hundred[index] = Member { weight: 0, ..kept };
        removed.push(changed(&hundred)?);
        hundred[index] = kept;
    }
    Ok(vec![
        Figure::of("a table of 65,537 slots and 1,000 backends", took, "ms").at_most(20.0),
        Figure::of("slots that change when 1 of 100 is down", down, "%").at_most(1.5),
        Figure::of("slots that change when 1 of 100 is removed", removed, "%").at_most(1.5),
    ])
}

fn backend(n: u32) -> SocketAddr {
    (std::net::Ipv4Addr::from(0x0a0a_0000 + n), 80).into()
}

/// Ten thousand VIPs, and what a packet pays for them.
fn load(rounds: u32) -> Result<Vec<Figure>> {
    let packet = packet::build("eth > ipv4 198.18.0.1 > 203.0.113.1 > tcp 40000 > 80 > bytes 100")?;
    let mut few = Measured::load(1)?;
    few.balance(&one_vip(Forward::Ipip)?)?;
    let mut figures = Vec::new();
    for (name, pools) in [("one upstream", 1), ("upstreams of their own", VIPS)] {
        let mut many = Measured::load(1)?;
        let took = many.balance(&ten_thousand(pools)?)?.as_secs_f64();
        figures.push(
            Figure::of(format!("10,000 VIPs of 100 backends, {name}, loaded"), vec![took], "s")
                .at_most(5.0),
        );
        let (mut same, mut spread) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            few.set_packet(&packet, 1 << 14, 1)?;
            let base = few.time("l4", &packet, REPEAT)?;
            many.set_packet(&packet, 1 << 14, 1)?;
            let one = many.time("l4", &packet, REPEAT)?;
            many.set_packet(&packet, 1 << 18, VIPS_HIT)?;
            let all = many.time("l4", &packet, REPEAT)?;
            if round > 0 {
                same.push((one / base - 1.0) * 100.0);
                spread.push((all / base - 1.0) * 100.0);
            }
        }
        let more = "a packet costs more than with one VIP,";
        figures.push(Figure::of(format!("{more} {name}, one is hit"), same, "%").at_most(10.0));
        let what = format!("{more} {name}, 8,192 are hit in turn");
        figures.push(Figure::of(what, spread, "%").at_most(10.0));
        // All those packets, and nothing is remembered of them.
        let bytes = (many.remembered_flows() * FLOW_BYTES) as f64 / f64::from(1u32 << 18);
        let what = format!("memory a flow, in stable state, {name}");
        figures.push(Figure::of(what, vec![bytes], "bytes").at_most(0.0));
    }
    Ok(figures)
}

fn ten_thousand(pools: u32) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    for n in 0..pools {
        let members = (0..BACKENDS).map(|m| backend((n * 31 + m) % 16_000));
        wanted.pools.push(pool(&format!("p{n}"), members));
    }
    for n in 0..VIPS {
        // The last one is what packets for one VIP are for.
        let address = if n + 1 == VIPS { 0xcb00_7101 } else { 0xcb00_0000 + n };
        let address = std::net::Ipv4Addr::from(address).to_string();
        let name = format!("v{n}");
        wanted.vips.push(vip(&name, &address, Protocol::Tcp, Forward::Ipip, (n % pools) as usize)?);
    }
    Ok(wanted)
}
