//! Clients under a flood.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_tests::backend::Backend;
use weir_tests::balancer::Balancer;
use weir_tests::echo::{Echo, ask};
use weir_tests::flood::{Flooding, LINUX_OPTIONS, mac};
use weir_tests::need;
use weir_tests::world::{Process, World, inside};

use crate::figure::Figure;

const PORT: u16 = 8000;
const VIP: &str = "203.0.113.1";
/// How long clients come under a flood.
const LENGTH: Duration = Duration::from_secs(5);
/// How long a client waits for its connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// All sources below 64.0.0.0.
const SPREAD: u32 = 0x3fff_ffff;
/// The size of a download.
const BULK: usize = 200_000_000;
/// Addresses of the client, each of which must prove itself once.
const SOURCES: u8 = 20;

/// What clients saw.
#[derive(Default)]
struct Seen {
    connected: Vec<Duration>,
    failed: usize,
}

impl Seen {
    fn share(&self) -> f64 {
        100.0 * self.connected.len() as f64 / (self.connected.len() + self.failed).max(1) as f64
    }

    fn p99(&mut self) -> f64 {
        self.connected.sort_unstable();
        let at = self.connected.len() * 99 / 100;
        self.connected.get(at).map_or(f64::INFINITY, |took| took.as_secs_f64() * 1e3)
    }
}

/// Hosts, a balancer with its configuration, and what has a veth take its frames.
struct Site {
    weir: Balancer,
    _processes: Vec<Process>,
    world: World,
}

impl Site {
    fn start(world: World, sections: &str, backends: &[&str]) -> Result<Self> {
        let mut processes = Vec::new();
        for name in backends.iter().chain(&["client2"]) {
            let mut command = World::command(&world.host(name), need::weir());
            command.args(["backend", VIP, "--interface", "eth0", "--mode", "driver"]);
            if *name == "client2" {
                command = World::command(&world.host(name), need::weir());
                command.args(["backend", "192.0.2.99", "-i", "eth0", "--mode", "driver"]);
            }
            processes.push(Process::start(&mut command)?);
        }
        let weir = Balancer::try_start_in(Some(&world.weir()), sections)?;
        Ok(Self { weir, _processes: processes, world })
    }

    /// A flood of SYNs as fast as one core makes them, each as long as what answers it.
    fn flood(&self, to: &str, port: u16, options: Option<&str>) -> Result<Flooding> {
        let mac = mac(&self.world.weir(), "client1")?;
        let options = options.map_or(String::new(), |digits| format!(" options {digits}"));
        let frame = format!("ipv4 16.0.0.1 > {to} > tcp 40000 > {port} flags 02 ack 0{options}");
        Flooding::start(&self.world.host("client1"), mac, &frame, SPREAD, None)
    }

    /// Packets by how they ended: verdict or reason.
    fn packets(&self, what: &str) -> u64 {
        let status = self.weir.status();
        let verdicts = status["kernel"]["verdicts"].as_array().cloned().unwrap_or_default();
        let is_it = |it: &&serde_json::Value| it["verdict"] == what || it["reason"] == what;
        verdicts.iter().filter(is_it).filter_map(|it| it["packets"].as_u64()).sum()
    }
}

fn request(address: SocketAddr) -> Result<Duration> {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    let took = began.elapsed();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "no answer");
    Ok(took)
}

/// Requests, each on a connection of its own, for a while.
fn requests(address: SocketAddr) -> Seen {
    let (mut seen, began) = (Seen::default(), Instant::now());
    while began.elapsed() < LENGTH {
        match request(address) {
            Ok(took) => seen.connected.push(took),
            Err(_) => seen.failed += 1,
        }
    }
    seen
}

/// Megabytes a second of a connection that is open before the flood begins.
fn download(stream: &mut TcpStream) -> Result<f64> {
    let request = format!("GET /bytes/{BULK} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let (mut buffer, mut read) = (vec![0; 1 << 18], 0);
    let began = Instant::now();
    while began.elapsed() < LENGTH {
        stream.write_all(request.as_bytes())?;
        let end = read + BULK;
        while read < end {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "the download was cut after {read} bytes");
            read += count;
        }
        // The head of the answer counts as well: it is nothing beside the rest.
        read = end;
    }
    Ok(read as f64 / began.elapsed().as_secs_f64() / 1e6)
}

/// What a flood did to a listener of this host and its clients.
struct Met {
    /// Million SYNs a second.
    rate: f64,
    /// Percent of connections.
    failed: f64,
    /// Milliseconds to connect.
    p99: f64,
    /// Megabytes a second: before the flood; in it; in it, of a connection that began in it.
    downloads: [f64; 3],
}

/// A listener of this host, with a guard and without.
pub(crate) fn listener(rounds: u32) -> Result<Vec<Figure>> {
    let (mut guarded, mut unguarded, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let with = meet("syn-rate: 5000, calm-after: 1s")?;
        let without = meet("syn: off")?;
        let beside = beside_a_dropped_flood()?;
        // The first round warms up.
        if round > 0 {
            guarded.push(with);
            unguarded.push(without);
            dropped.push(beside);
        }
    }
    let of = |all: &[Met], what: fn(&Met) -> f64| all.iter().map(what).collect::<Vec<f64>>();
    let lost = guarded.iter().zip(&dropped).map(|(met, beside)| {
        let [_, during, _] = met.downloads;
        100.0 - during / beside * 100.0
    });
    let lost = lost.collect();
    let mut figures = Vec::new();
    for (name, all, goals) in
        [("guarded", &guarded, Some((0.1, 20.0))), ("unguarded", &unguarded, None)]
    {
        let rate = format!("SYNs that one core makes and meets, {name}");
        figures.push(Figure::of(rate, of(all, |met| met.rate), "million/s"));
        let failed =
            Figure::of(format!("connections that fail, {name}"), of(all, |met| met.failed), "%");
        let p99 = Figure::of(format!("time to connect, p99, {name}"), of(all, |met| met.p99), "ms");
        figures.extend(match goals {
            Some((most, slowest)) => [failed.at_most(most), p99.at_most(slowest)],
            None => [failed, p99],
        });
        let download = format!("a download of an established connection, {name}");
        figures.push(Figure::of(download, of(all, |met| met.downloads[1]), "MB/s"));
        let fresh = format!("the same of one that began under the flood, {name}");
        figures.push(Figure::of(fresh, of(all, |met| met.downloads[2]), "MB/s"));
    }
    figures.extend([
        Figure::of(
            "a download of an established connection without a flood",
            of(&guarded, |met| met.downloads[0]),
            "MB/s",
        ),
        Figure::of("the same beside a flood that is dropped at once", dropped, "MB/s"),
        Figure::of("what the guarded one loses of that", lost, "%").at_most(5.0),
    ]);
    let ratio = |(guarded, unguarded): (&Met, &Met)| {
        100.0 - guarded.downloads[2] / unguarded.downloads[2] * 100.0
    };
    let slower = guarded.iter().zip(&unguarded).map(ratio).collect();
    let what = "how much slower the one that began under the flood is guarded";
    figures.push(Figure::of(what, slower, "%").at_most(5.0));
    Ok(figures)
}

/// A balancer with a listener, an origin behind it, and this guard.
fn serving(guard: &str) -> Result<(Site, Backend, TcpStream)> {
    let world = World::new()?;
    world.route()?;
    // Answers to the flood's sources have a way to go.
    answerable(&world)?;
    let origin = inside(&world.weir(), || Backend::start("origin"))?;
    let sections = format!(
        "kernel: {{ interfaces: [client1, client2], mode: driver, pin: off, guard: {{ {guard} }} }}\n\
         listeners: [{{ name: web, address: \"0.0.0.0:{PORT}\" }}]\n\
         routes: [{{ name: all, service: s }}]\n\
         services: [{{ name: s, upstream: u }}]\n\
         upstreams: [{{ name: u, targets: [\"{}\"] }}]\n",
        origin.address
    );
    let site = Site::start(world, &sections, &[])?;
    let address = own_address()?;
    let stream = inside(&site.world.host("client2"), || TcpStream::connect(address))??;
    Ok((site, origin, stream))
}

/// Begins the flood of a listener, and waits until it is there.
fn flooded(site: &Site) -> Result<Flooding> {
    let flood = site.flood(&World::weir_address("client2"), PORT, Some(LINUX_OPTIONS))?;
    while flood.sent() < 500_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(flood)
}

fn meet(guard: &str) -> Result<Met> {
    let (site, _origin, mut stream) = serving(guard)?;
    let (address, client) = (own_address()?, site.world.host("client2"));
    let alone = inside(&client, || download(&mut stream))??;
    let flood = flooded(&site)?;
    let (from, began) = (flood.sent(), Instant::now());
    let mut seen = inside(&client, || requests(address))?;
    let rate = (flood.sent() - from) as f64 / began.elapsed().as_secs_f64() / 1e6;
    // One that is cut is as slow as can be.
    let during = inside(&client, || download(&mut stream))?.unwrap_or(0.0);
    let fresh = inside(&client, || download(&mut TcpStream::connect(address)?))?.unwrap_or(0.0);
    drop(flood);
    let is_guarded = !guard.contains("off");
    ensure!(is_guarded == (site.packets("syn_cookie") > 0), "cookies with {guard}");
    Ok(Met {
        rate,
        failed: 100.0 - seen.share(),
        p99: seen.p99(),
        downloads: [alone, during, fresh],
    })
}

/// Gives the balancer a way for its answers to whoever the flood pretends to be.
fn answerable(world: &World) -> Result<()> {
    let address = World::address("client1");
    let mac = mac(&world.host("client1"), "eth0")?.map(|byte| format!("{byte:02x}")).join(":");
    for arguments in [
        &["neigh", "replace", &address, "lladdr", &mac, "dev", "client1"][..],
        &["route", "replace", "default", "via", &address],
    ] {
        let status = std::process::Command::new("ip")
            .args(["-n", &world.weir()])
            .args(arguments)
            .status()
            .context("run ip")?;
        ensure!(status.success(), "ip {arguments:?}");
    }
    Ok(())
}

fn own_address() -> Result<SocketAddr> {
    Ok((World::weir_address("client2").parse::<std::net::IpAddr>()?, PORT).into())
}

/// A download while the flood's sources are banned.
fn beside_a_dropped_flood() -> Result<f64> {
    let (site, _origin, mut stream) = serving("syn: off")?;
    site.weir.ok(&["ban", "add", "0.0.0.0/2", "--force"]);
    let _flood = flooded(&site)?;
    inside(&site.world.host("client2"), || download(&mut stream))?
}

/// A VIP whose packets are forwarded.
pub(crate) fn vip(rounds: u32) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for forward in ["ipip", "l2"] {
        let [mut through, mut extra, mut fails, mut rates] = <[Vec<f64>; 4]>::default();
        for round in 0..=rounds {
            let found = one_vip(forward)?;
            if round > 0 {
                let all = [&mut through, &mut extra, &mut fails, &mut rates];
                all.into_iter().zip(found).for_each(|(all, one)| all.push(one));
            }
        }
        figures.extend([
            Figure::of(format!("{forward}: the flood"), rates, "million SYNs/s"),
            Figure::of(format!("{forward}: of the flood, what backends get"), through, "%")
                .at_most(1.0),
            Figure::of(format!("{forward}: connections that fail"), fails, "%").at_most(0.1),
            Figure::of(
                format!("{forward}: more for the first connection of a source, the slowest of 20"),
                extra,
                "ms",
            )
            .at_most(50.0),
        ]);
    }
    Ok(figures)
}

/// Share of the flood that goes through, milliseconds more for a new source, share of failures, rate.
fn one_vip(forward: &str) -> Result<[f64; 4]> {
    const BACKENDS: [&str; 3] = ["backend1", "backend2", "backend3"];
    let world = World::new()?;
    world.route()?;
    let targets = BACKENDS.map(|name| format!("\"{}:{PORT}\"", World::address(name))).join(", ");
    let sections = format!(
        "kernel: {{ interfaces: [client1, client2, backend1, backend2, backend3], mode: driver, pin: off, \
         guard: {{ syn-rate: 5000, calm-after: 1s }} }}\n\
         vips: [{{ name: v, address: \"{VIP}:{PORT}\", upstream: u, forward: {forward} }}]\n\
         upstreams: [{{ name: u, targets: [{targets}] }}]\n"
    );
    let client = world.host("client2");
    for last in 10..10 + SOURCES {
        let address = format!("198.18.2.{last}/24");
        let arguments = ["-n", &client, "address", "add", &address, "dev", "eth0"];
        std::process::Command::new("ip").args(arguments).status().context("run ip")?;
    }
    let site = Site::start(world, &sections, &BACKENDS)?;
    let mut echoes = Vec::new();
    for name in BACKENDS {
        let namespace = site.world.host(name);
        let deadline = Instant::now() + Duration::from_secs(10);
        // Until the VIP is there.
        loop {
            match Echo::start(&namespace, name, &[(VIP.parse::<std::net::IpAddr>()?, PORT).into()])
            {
                Ok(echo) => break echoes.push(echo),
                Err(error) => ensure!(Instant::now() < deadline, "{error:#}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let vip: SocketAddr = (VIP.parse::<std::net::IpAddr>()?, PORT).into();
    let connect = |last: u8| -> Result<Duration> {
        let any: SocketAddr = ([198, 18, 2, last], 0).into();
        inside(&client, || -> Result<Duration> {
            let began = Instant::now();
            let mut stream = weir_tests::client::connect_from(any, vip, PATIENCE * 3)?;
            let took = began.elapsed();
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(&mut stream, "who")?;
            Ok(took)
        })?
    };
    // Routes and neighbours are found.
    for last in 10..10 + SOURCES {
        connect(last)?;
    }
    let calm: Vec<Duration> =
        (10..10 + SOURCES).map(&connect).collect::<Result<_>>().context("without a flood")?;
    let flood = site.flood(VIP, PORT, None)?;
    site.weir.wait_until("attack", |status| status["guard"]["guarded"][0]["state"] == "attack");
    let (sent, passed, began) = (flood.sent(), site.packets("send"), Instant::now());
    let (mut failed, mut extra, mut count) = (0, 0.0f64, 0);
    for (last, calm) in (10..10 + SOURCES).zip(calm) {
        count += 1;
        match connect(last) {
            Ok(took) => extra = extra.max(took.saturating_sub(calm).as_secs_f64() * 1e3),
            Err(_) => failed += 1,
        }
    }
    while began.elapsed() < LENGTH {
        count += 1;
        failed += usize::from(connect(10 + (count % usize::from(SOURCES)) as u8).is_err());
    }
    let passed = site.packets("send") - passed;
    let sent = flood.sent() - sent;
    let rate = sent as f64 / began.elapsed().as_secs_f64() / 1e6;
    // A client's connection takes some packets of its own: eight at most.
    let through = passed.saturating_sub(8 * count as u64) as f64 * 100.0 / sent as f64;
    Ok([through, extra, failed as f64 * 100.0 / count as f64, rate])
}
