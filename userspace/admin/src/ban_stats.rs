//! `GET /bans/stats`: the bans as a whole.

use hyper::Method;
use weir_l4::Kernel;

use crate::api::{BanListStats, BanStats};
use crate::bans::{unix, with_kernel};
use crate::endpoint::{Answer, Endpoint, Port, at_once};

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/bans/stats",
    port: Port::Admin,
    summary: "lists with their hits, kernel memory, how full the table is",
    answer: |running, _| at_once(with_kernel(&running, |kernel| Ok(stats(kernel)))),
};

fn stats(kernel: &Kernel) -> Answer {
    let stats = kernel.stats();
    let counters = kernel.counters().unwrap_or_default();
    let packets = |reason| {
        counters.iter().filter(|counter| counter.reason == reason).map(|c| c.packets).sum()
    };
    let lists = stats.lists.into_iter().map(|list| BanListStats {
        name: list.name,
        prefixes: list.prefixes,
        created: unix(list.created),
        dry_run: list.dry_run,
        packets: list.hits.packets,
        bytes: list.hits.bytes,
    });
    let (used, all) = stats.lines;
    Answer::json(&BanStats {
        prefixes: stats.prefixes,
        live: stats.live,
        allowed: stats.allowed,
        dry_run: stats.dry_run,
        dropped_packets: packets("banned"),
        would_drop_packets: packets("would_drop"),
        memory_bytes: stats.memory_bytes,
        used: f64::from(used) / f64::from(all.max(1)),
        built_in_milliseconds: stats.built_in.as_secs_f64() * 1e3,
        lists: lists.collect(),
    })
}
