//! Real frames over a veth pair, and bans made while a large list is in force.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_l4::measure::Measured;
use weir_l4::{Configured, Kernel, List};
use weir_model::LogLevel;
use weir_tests::balancer::Balancer;
use weir_tests::packet;
use weir_tests::world::{World, inside as on};

use super::LARGE;
use super::lists::{BANNED, Prefixes};
use super::load::sections;
use super::tools::inside;
use crate::figure::Figure;

/// Frames of one measurement.
const FRAMES: u32 = 1_000_000;
/// Bans of a second, and how long they are made.
const BANS_PER_SECOND: u32 = 100;

/// Frames a second of one core, sender and receiver together, by each way to drop them.
pub(crate) fn flood(prefixes: &Prefixes, rounds: u32) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, drop) in [
        ("Weir in the driver", Way::Weir),
        ("nft, netdev ingress, interval set", Way::NftIngress),
        ("iptables raw with ipset", Way::Ipset),
    ] {
        let rates = rates(prefixes, drop, rounds).with_context(|| name.to_owned())?;
        figures.push(Figure::of(name, rates, "million frames a second and core"));
    }
    Ok(figures)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Weir,
    NftIngress,
    Ipset,
}

fn rates(prefixes: &Prefixes, way: Way, rounds: u32) -> Result<Vec<f64>> {
    let world = World::new()?;
    let (here, there) = (world.weir(), world.host("client1"));
    let frame = frame_to(&here)?;
    let kernel = on(&here, || -> Result<_> {
        let mut passing = Measured::load(1)?;
        if way != Way::Weir {
            passing.attach_empty("client1")?;
            return Ok((None, Some(passing)));
        }
        let settings = weir_model::Kernel {
            interfaces: vec!["client1".to_owned()],
            mode: weir_model::KernelMode::Driver,
            ..weir_model::Kernel::default()
        };
        let kernel = Kernel::load(&settings, None, LogLevel::Info)?;
        let mut list = List::new(std::time::SystemTime::now(), false);
        prefixes.cidrs(LARGE).into_iter().for_each(|cidr| list.push(cidr, "", None));
        let lists = vec![("large".to_owned(), list)];
        kernel.configure(Configured { lists, ..Configured::default() })?;
        kernel.attach(&settings)?;
        Ok((Some(kernel), None))
    })??;
    match way {
        Way::Weir => {}
        Way::NftIngress => {
            let hook = "type filter hook ingress device client1 priority 0;";
            inside(&here, &["nft", "-f", "-"], &prefixes.nft(hook))?;
        }
        Way::Ipset => {
            inside(&here, &["ipset", "restore"], &prefixes.ipset())?;
            let rule = "-t raw -A PREROUTING -m set --match-set bad src -j DROP";
            let command: Vec<_> = ["iptables"].into_iter().chain(rule.split(' ')).collect();
            inside(&here, &command, "")?;
        }
    }
    let dropped = || dropped(way, &here, kernel.0.as_ref());
    let mut rates = Vec::new();
    let before = dropped()?;
    on(&there, || -> Result<()> {
        let mut sender = Measured::load(1)?;
        // The sender's end of the pair takes frames of XDP only with a program.
        sender.attach_empty("eth0")?;
        for round in 0..=rounds {
            let took = sender.flood("eth0", &frame, FRAMES)?;
            if round > 0 {
                rates.push(f64::from(FRAMES) / took.as_secs_f64() / 1e6);
            }
        }
        Ok(())
    })??;
    let sent = u64::from(FRAMES) * u64::from(rounds + 1);
    let gone = dropped()? - before;
    ensure!(gone >= sent / 10 * 9, "only {gone} of {sent} frames were dropped");
    Ok(rates)
}

/// Frames dropped so far, as each way counts them.
fn dropped(way: Way, here: &str, kernel: Option<&Kernel>) -> Result<u64> {
    match way {
        Way::Weir => {
            let counters = kernel.map(Kernel::counters).transpose()?;
            let counters = counters.unwrap_or_default();
            Ok(counters.iter().filter(|c| c.reason == "banned").map(|c| c.packets).sum())
        }
        Way::NftIngress => {
            let chain = inside(here, &["nft", "list", "chain", "netdev", "bench", "in"], "")?;
            counted(&chain, "packets ")
        }
        Way::Ipset => {
            let list = ["iptables", "-t", "raw", "-L", "PREROUTING", "-v", "-x", "-n"];
            let line = inside(here, &list, "")?;
            let line = line.lines().find(|line| line.contains("match-set")).unwrap_or("");
            Ok(line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0))
        }
    }
}

/// A frame of the banned source that the stack of Weir's host would take.
fn frame_to(here: &str) -> Result<Vec<u8>> {
    let link = inside(here, &["ip", "-brief", "link", "show", "client1"], "")?;
    let is_mac = |word: &&str| word.matches(':').count() == 5;
    let mac = link.split_whitespace().find(is_mac).context("an Ethernet address")?;
    let mut frame =
        packet::build(&format!("eth > ipv4 {BANNED} > 198.18.1.1 > tcp 40000 > 80 > bytes 6"))?;
    for (byte, text) in frame.iter_mut().zip(mac.split(':')) {
        *byte = u8::from_str_radix(text, 16).context("an Ethernet address")?;
    }
    let header = frame.get_mut(14..34).context("an IPv4 header")?;
    let words = header.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    Ok(frame)
}

/// The number behind a word.
fn counted(text: &str, word: &str) -> Result<u64> {
    let number = text.split(word).nth(1).and_then(|rest| rest.split_whitespace().next());
    number.context("a counter")?.parse().context("a counter")
}

/// How long live bans take while a large list is in force: for a minute, or ten seconds.
pub(crate) fn bans(prefixes: &Prefixes, minute: bool) -> Result<Vec<Figure>> {
    let world = World::new()?;
    let weir = Balancer::try_start_in(Some(&world.weir()), &sections())?;
    let list = weir.file("list.txt");
    std::fs::write(&list, prefixes.lines()).context("write the list")?;
    weir.ok(&["ban", "load", &list.display().to_string()]);
    let count = BANS_PER_SECOND * if minute { 60 } else { 10 };
    let began = Instant::now();
    let (mut whole, mut in_force) = (Vec::new(), Vec::new());
    for index in 0..count {
        let due = Duration::from_secs(1) * index / BANS_PER_SECOND;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + index * 2_791);
        let at = Instant::now();
        let told = weir.ok(&["ban", "add", &address.to_string(), "--json"]);
        whole.push(at.elapsed().as_secs_f64() * 1e3);
        let told: serde_json::Value = serde_json::from_str(&told)?;
        in_force.push(told["milliseconds"].as_f64().context("milliseconds")?);
    }
    let per_second = f64::from(count) / began.elapsed().as_secs_f64();
    let status = weir.status();
    ensure!(status["kernel"]["bans"] == LARGE + count as usize, "{}", status["kernel"]["bans"]);
    let worst = |figures: &[f64]| vec![figures.iter().copied().fold(0.0, f64::max)];
    let (worst_whole, worst_in_force) = (worst(&whole), worst(&in_force));
    Ok(vec![
        Figure::of("bans a second", vec![per_second], ""),
        Figure::of("in force, as `weir` counts it", in_force, "ms"),
        Figure::of("the slowest of them", worst_in_force, "ms").at_most(10.0),
        Figure::of("the whole command, its process included", whole, "ms"),
        Figure::of("the slowest of them", worst_whole, "ms"),
    ])
}
