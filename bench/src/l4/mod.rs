//! The scenario `l4`: what balancing in the kernel costs, as multiples of a program that does nothing.

mod live;
mod nanoseconds;
mod tables;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use weir_l4::{Pool, PoolMember, Wanted};
use weir_model::{Forward, HashBy, Protocol, Vip};

use crate::figure::Scenario;

const MISLEADS: &str = "\
`BPF_PROG_TEST_RUN` has no driver, and the packet is always in the cache. Multiples of the empty \
program depend on what entering a program costs: 7 ns on some machines, 28 on others whose \
processors need more protection; the nanoseconds are beside them. Encapsulated packets are restored \
by a shell around the program, whose cost is shown and is part of the multiples. Frames over veth \
carry no interrupts and no DMA, and sender, balancer and receiver share one core.";

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "l4",
    question: "What does a packet for a VIP cost in the kernel, and what do tables and changes of them?",
    misleads: MISLEADS,
    parts: &[
        ("nanoseconds", "Nanoseconds a packet, by `BPF_PROG_TEST_RUN`"),
        ("live", "Frames over veth and back, one core, over an empty `XDP_TX`"),
        ("tables", "Tables: to build, to change, to load, to remember flows"),
    ],
    run: |part, rounds| match part {
        "nanoseconds" => nanoseconds::run(rounds),
        "live" => live::run(rounds),
        _ => tables::run(rounds),
    },
};

/// A VIP at port 80.
pub(crate) fn vip(
    name: &str,
    address: &str,
    protocol: Protocol,
    forward: Forward,
    pool: usize,
) -> Result<Vip> {
    Ok(Vip {
        name: name.to_owned(),
        address: address.parse()?,
        port: 80.try_into().ok(),
        protocol,
        upstream: pool,
        forward,
        hash: HashBy::FiveTuple,
        idle: Duration::from_secs(60),
    })
}

/// A pool of these backends.
pub(crate) fn pool(name: &str, backends: impl Iterator<Item = SocketAddr>) -> Pool {
    let member = |address| PoolMember { address, weight: 100, is_up: true, server_id: None };
    Pool {
        name: name.to_owned(),
        slow_start: Duration::ZERO,
        members: backends.map(member).collect(),
    }
}

/// One VIP a protocol and family, of 90 backends each.
fn one_vip(forward: Forward) -> Result<Wanted> {
    let four = (1..=90u8).map(|n| SocketAddr::from(([10, 9, 0, n], 80)));
    let six = (1..=90u16).map(|n| SocketAddr::from(([0xfd09, 0, 0, 0, 0, 0, 0, n], 80)));
    Ok(Wanted {
        vips: vec![
            vip("tcp", "203.0.113.1", Protocol::Tcp, forward, 0)?,
            vip("udp", "203.0.113.1", Protocol::Udp, forward, 0)?,
            vip("tcp6", "2001:db8::1", Protocol::Tcp, forward, 1)?,
        ],
        pools: vec![pool("four", four), pool("six", six)],
        ..Wanted::default()
    })
}
