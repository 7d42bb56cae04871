//! What a stage adds to a packet, by `BPF_PROG_TEST_RUN`: a program with it minus the same without.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use weir_l4::measure::Measured;
use weir_tests::packet;
use weir_tests::world::World;

use super::LARGE;
use super::lists::{BANNED, CLEAN, Prefixes};
use super::tools::inside;
use crate::figure::Figure;

/// Packets of one measurement.
const REPEAT: u32 = 2_000_000;

pub(crate) fn run(prefixes: &Prefixes, rounds: u32) -> Result<Vec<Figure>> {
    let (clean, banned) = (from(CLEAN)?, from(BANNED)?);
    let mut figures = Vec::new();
    let mut measured = Measured::load(LARGE as u32)?;
    for (count, name) in [(0, "0"), (1_000, "1,000"), (100_000, "100,000"), (LARGE, "1,000,000")] {
        measured.ban(&prefixes.cidrs(count))?;
        let added = pairs(&mut measured, "same", "bans", &clean, rounds)?;
        figures
            .push(Figure::of(format!("one clean source, {name} bans"), added, "ns").at_most(3.0));
    }
    measured.ban(&[])?;
    let added = pairs(&mut measured, "random", "bans", &clean, rounds)?;
    figures.push(Figure::of("another source each packet, 0 bans", added, "ns"));
    let cidrs = prefixes.cidrs(LARGE);
    measured.ban(&cidrs)?;
    let added = pairs(&mut measured, "random", "bans", &clean, rounds)?;
    figures
        .push(Figure::of("another source each packet, 1,000,000 bans", added, "ns").at_most(12.0));
    measured.fill_trie(&cidrs)?;
    measured.fill_hash(&cidrs)?;
    for (stage, name) in [("trie", "prefix tree"), ("hash", "hash of addresses")] {
        let added = pairs(&mut measured, "same", stage, &clean, rounds)?;
        figures.push(Figure::of(format!("one clean source, {name} of 1,000,000"), added, "ns"));
        let added = pairs(&mut measured, "random", stage, &clean, rounds)?;
        figures.push(Figure::of(
            format!("another source each packet, {name} of 1,000,000"),
            added,
            "ns",
        ));
    }
    let filter = xdp_filter(&mut measured, &banned, rounds)?;
    let mut dropped = Vec::new();
    for _ in 0..rounds {
        let base = measured.time_by_kernel("empty", &banned, REPEAT)?;
        dropped.push(measured.time_by_kernel("same_bans", &banned, REPEAT)? - base);
    }
    let goal = Figure::of("", filter.clone(), "ns").found[0];
    figures.push(
        Figure::of("a banned source's drop, 1,000,000 bans, over the empty program", dropped, "ns")
            .at_most(goal),
    );
    figures.push(Figure::of("the same by `xdp-filter`, 1 address", filter, "ns"));
    Ok(figures)
}

fn from(source: Ipv4Addr) -> Result<Vec<u8>> {
    packet::build(&format!("eth > ipv4 {source} > 198.18.1.1 > tcp 40000 > 80 > bytes 6"))
}

/// What a stage adds, in rounds with and without it in turn.
fn pairs(
    measured: &mut Measured,
    sources: &str,
    stage: &str,
    packet: &[u8],
    rounds: u32,
) -> Result<Vec<f64>> {
    let (with, without) = (format!("{sources}_{stage}"), format!("{sources}_without"));
    let mut added = Vec::new();
    for round in 0..=rounds {
        let base = measured.time(&without, packet, REPEAT)?;
        let more = measured.time(&with, packet, REPEAT)?;
        // The first round warms up.
        if round > 0 {
            added.push(more - base);
        }
    }
    Ok(added)
}

/// A denied packet's time in `xdp-filter`, over the empty program, each as the kernel counts it.
fn xdp_filter(measured: &mut Measured, banned: &[u8], rounds: u32) -> Result<Vec<f64>> {
    let world = World::new()?;
    let namespace = world.host("client1");
    let mounted = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let is_mounted = mounted.contains(" /sys/fs/bpf ");
    if !is_mounted {
        inside(&namespace, &["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], "")?;
    }
    inside(&namespace, &["xdp-filter", "load", "-f", "ipv4", "eth0"], "")?;
    let times = denied(measured, &namespace, banned, rounds);
    inside(&namespace, &["xdp-filter", "unload", "eth0"], "")?;
    if !is_mounted {
        inside(&namespace, &["umount", "/sys/fs/bpf"], "")?;
    }
    times
}

fn denied(
    measured: &mut Measured,
    namespace: &str,
    banned: &[u8],
    rounds: u32,
) -> Result<Vec<f64>> {
    inside(namespace, &["xdp-filter", "ip", "-m", "src", &BANNED.to_string()], "")?;
    let link = inside(namespace, &["ip", "-details", "link", "show", "eth0"], "")?;
    let id = link.split("prog/xdp id ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let id = id.context("the program of xdp-filter")?.to_owned();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("packet");
    std::fs::write(&file, banned)?;
    let file = file.display().to_string();
    let repeat = REPEAT.to_string();
    let mut times = Vec::new();
    for _ in 0..rounds {
        let run = ["bpftool", "prog", "run", "id", &id, "data_in", &file, "repeat", &repeat];
        let told = inside(namespace, &run, "")?;
        let duration = told.split("duration (average): ").nth(1);
        let duration = duration.and_then(|rest| rest.trim_end().strip_suffix("ns"));
        let duration: f64 = duration.context("bpftool's answer")?.trim().parse()?;
        times.push(duration - measured.time_by_kernel("empty", banned, REPEAT)?);
    }
    Ok(times)
}
