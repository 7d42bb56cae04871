//! The steps of the demo: each says what it does, does it, and checks what came of it.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use weir_tests::world::World;

use crate::go_on;
use crate::load::{Outcome, ask, ask_until};
use crate::site::Site;

/// Requests of a step.
const REQUESTS: u64 = 1_000;
/// Prefixes of the list.
const PREFIXES: u32 = 100_000;
/// How long something may take that takes moments.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of each step.
#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<(&'static str, bool, String)>);

impl Summary {
    pub(crate) fn all_held(&self) -> bool {
        self.0.iter().all(|(_, held, _)| *held)
    }

    fn add(&mut self, step: &'static str, held: bool, found: String) {
        println!("   {} {found}", if held { "✓" } else { "✗" });
        self.0.push((step, held, found));
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(step, ..)| step.len()).max().unwrap_or(0);
        writeln!(f, "{:width$}  held  what was seen", "step")?;
        for (step, held, found) in &self.0 {
            writeln!(f, "{step:width$}  {:4}  {found}", if *held { "yes" } else { "NO" })?;
        }
        Ok(())
    }
}

/// Every step, in order.
pub(crate) fn all() -> Result<(Site, Summary)> {
    let mut summary = Summary::default();
    title(
        1,
        "Two clients, Weir and two HTTP backends, each on a host (network namespace) of its own",
    );
    let mut site = Site::start()?;
    let modes = site.modes();
    println!(
        "   client1 ─┐        ┌─ backend1\n            ├─ weir ─┤\n   client2 ─┘        └─ backend2"
    );
    summary.add("XDP in the driver", !modes.contains("generic") && !modes.is_empty(), modes);
    site.wait_for_health(0, "up");
    site.wait_for_health(1, "up");
    go_on()?;
    spread(&site, &mut summary)?;
    go_on()?;
    killed_backend(&mut site, &mut summary)?;
    go_on()?;
    banned_client(&site, &mut summary)?;
    go_on()?;
    list(&site, &mut summary)?;
    go_on()?;
    title(6, "weir status");
    println!("{}", indent(&site.weir.ok(&["status"])));
    Ok((site, summary))
}

fn spread(site: &Site, summary: &mut Summary) -> Result<()> {
    title(2, "1,000 requests of client1, spread over both backends");
    let outcome = ask(&site.world.host("client1"), Site::address("client1")?, REQUESTS, |_| {})?;
    let shares: Vec<_> = outcome.by_backend.values().collect();
    let is_even = shares.len() == 2 && shares.iter().all(|share| **share == REQUESTS / 2);
    summary.add("spread", is_even && outcome.lost.is_empty(), told(&outcome));
    Ok(())
}

fn killed_backend(site: &mut Site, summary: &mut Summary) -> Result<()> {
    title(3, "1,000 requests more; backend1 is killed (SIGKILL) in the middle");
    let (namespace, address) = (site.world.host("client1"), Site::address("client1")?);
    let answered = AtomicU64::new(0);
    let outcome = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            ask(&namespace, address, REQUESTS, |count| answered.store(count, Ordering::Relaxed))
        });
        wait_until("requests are answered", || answered.load(Ordering::Relaxed) > REQUESTS / 4)?;
        site.kill_backend(0);
        asking.join().map_err(|_| anyhow::anyhow!("a client gave up"))?
    })?;
    let lost_none = outcome.lost.is_empty() && outcome.answered() == REQUESTS;
    summary.add("a backend killed", lost_none, told(&outcome));
    site.wait_for_health(0, "down");
    println!("   health checks have taken backend1 out; it is started again");
    site.restart_backend(0)?;
    site.wait_for_health(0, "up");
    Ok(())
}

fn banned_client(site: &Site, summary: &mut Summary) -> Result<()> {
    title(4, "Both clients keep asking; client1 is banned live, and unbanned again");
    let end = AtomicBool::new(false);
    let answered = [AtomicU64::new(0), AtomicU64::new(0)];
    let hosts = ["client1", "client2"].map(|host| (site.world.host(host), Site::address(host)));
    std::thread::scope(|scope| {
        for ((namespace, address), answered) in hosts.iter().zip(&answered) {
            let address = address.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            scope.spawn(|| ask_until(namespace, *address, &end, answered));
        }
        let banned = ban_and_unban(site, summary, &answered);
        end.store(true, Ordering::Relaxed);
        banned
    })
}

fn ban_and_unban(site: &Site, summary: &mut Summary, answered: &[AtomicU64; 2]) -> Result<()> {
    let count = |client: usize| answered[client].load(Ordering::Relaxed);
    let goes_on = |client: usize| {
        let before = count(client);
        wait_until("a client is answered", || count(client) > before + 50)
    };
    goes_on(0)?;
    goes_on(1)?;
    let (address, before) = (World::address("client1"), site.dropped());
    println!("   $ weir ban add {address} --reason demo");
    print!("{}", indent(&site.weir.ok(&["ban", "add", &address, "--reason", "demo"])));
    // What was on its way may still arrive; then nothing may.
    wait_until("packets are dropped", || site.dropped() > before)?;
    let (silent, unharmed) = (count(0), count(1));
    wait_until("client2 is served", || count(1) > unharmed + 1_000)?;
    wait_until("client1 tries again", || site.dropped() >= before + 3)?;
    let (got, other) = (count(0) - silent, count(1) - unharmed);
    let dropped = site.dropped() - before;
    let found = format!(
        "{dropped} packets of client1 dropped in the driver, {got} of its requests answered; \
         client2 got {other} answers meanwhile"
    );
    summary.add("a client banned", dropped > 0 && got == 0 && other > 1_000, found);
    println!("   $ weir ban del {address}");
    print!("{}", indent(&site.weir.ok(&["ban", "del", &address])));
    let back = goes_on(0).is_ok();
    let found = format!("client1 is {} again", if back { "served" } else { "NOT served" });
    summary.add("unbanned", back, found);
    Ok(())
}

fn list(site: &Site, summary: &mut Summary) -> Result<()> {
    title(5, "A file of 100,000 prefixes is loaded");
    let file = site.weir.file("crawlers.txt");
    // Scattered over 11.0.0.0/8 and what follows, where none of these hosts is.
    let lines =
        (0..PREFIXES).map(|index| format!("{}\n", Ipv4Addr::from(0x0b00_0000 + index * 97)));
    std::fs::write(&file, lines.collect::<String>()).context("write the list")?;
    println!("   $ weir ban load crawlers.txt");
    let began = Instant::now();
    let output = site.weir.weir(&["ban", "load", &file.display().to_string()]);
    let took = began.elapsed();
    print!("{}", indent(&String::from_utf8_lossy(&output.stdout)));
    let banned = site.weir.status()["kernel"]["bans"] == PREFIXES;
    let outcome = ask(&site.world.host("client1"), Site::address("client1")?, 100, |_| {})?;
    let held = output.status.success() && banned && outcome.lost.is_empty();
    let found = format!(
        "{PREFIXES} prefixes in force {:.0} ms after the command was typed; 100 of 100 requests of a \
         clean client answered",
        took.as_secs_f64() * 1e3
    );
    summary.add("a list loaded", held, found);
    Ok(())
}

fn title(number: u32, text: &str) {
    println!("\n{number}. {text}");
}

fn told(outcome: &Outcome) -> String {
    let lost = match outcome.lost.first() {
        None => "none lost".to_owned(),
        Some(first) => format!("{} LOST, the first: {first}", outcome.lost.len()),
    };
    format!("{} answered ({}), {lost}", outcome.answered(), outcome.spread())
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("   {line}").trim_end().to_owned() + "\n").collect()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        go_on()?;
        if Instant::now() > deadline {
            bail!("waited in vain until {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
