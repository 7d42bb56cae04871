//! How long a list takes from its file until it is in force.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use weir_l4::measure::Measured;
use weir_tests::balancer::Balancer;
use weir_tests::world::World;

use super::LARGE;
use super::lists::Prefixes;
use super::tools::inside;
use crate::figure::Figure;

/// nft takes some 20 seconds: it is measured so often.
const NFT_ROUNDS: u32 = 1;

pub(crate) fn run(prefixes: &Prefixes, rounds: u32) -> Result<Vec<Figure>> {
    let world = World::new()?;
    let namespace = world.weir();
    let weir = Balancer::try_start_in(Some(&namespace), &sections())?;
    let list = weir.file("list.txt");
    std::fs::write(&list, prefixes.lines()).context("write the list")?;
    let list = list.display().to_string();
    let (ipset, nft) = (prefixes.ipset(), prefixes.nft("type filter hook input priority 0;"));
    let (mut ours, mut sets, mut intervals, mut tries) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        let began = Instant::now();
        weir.ok(&["ban", "load", &list, "--replace"]);
        ours.push(began.elapsed().as_secs_f64());
        ensure!(weir.status()["kernel"]["bans"] == LARGE, "the list is not in force");
        let began = Instant::now();
        inside(&namespace, &["ipset", "restore"], &ipset)?;
        sets.push(began.elapsed().as_secs_f64());
        inside(&namespace, &["ipset", "destroy", "bad"], "")?;
        if round < NFT_ROUNDS {
            let began = Instant::now();
            inside(&namespace, &["nft", "-f", "-"], &nft)?;
            intervals.push(began.elapsed().as_secs_f64());
            inside(&namespace, &["nft", "delete", "table", "ip", "bench"], "")?;
        }
        let mut measured = Measured::load(LARGE as u32)?;
        let began = Instant::now();
        let text = std::fs::read_to_string(&list)?;
        let cidrs: Result<Vec<_>, _> = text.lines().map(str::parse).collect();
        measured.fill_trie(&cidrs?)?;
        tries.push(began.elapsed().as_secs_f64());
    }
    let stats: serde_json::Value = serde_json::from_str(&weir.ok(&["ban", "stats", "--json"]))?;
    let memory = stats["memory_bytes"].as_f64().context("memory")? / f64::from(1 << 20);
    Ok(vec![
        Figure::of("`weir ban load`", ours, "s").at_most(1.0),
        Figure::of("`ipset restore`", sets, "s"),
        Figure::of("`nft -f`, interval set", intervals, "s"),
        Figure::of("prefix tree of the kernel, in batches", tries, "s"),
        Figure::of("kernel memory of Weir's tables", vec![memory], "MiB").at_most(160.0),
    ])
}

/// Weir on a client's interface, its bans for this run alone.
pub(crate) fn sections() -> String {
    "kernel: { interfaces: [client1], mode: driver, pin: off }\n\
     listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n"
        .to_owned()
}
