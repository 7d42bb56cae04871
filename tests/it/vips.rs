//! VIPs between hosts: client — veth — Weir with XDP in driver mode — veth — backends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weir_tests::balancer::Balancer;
use weir_tests::echo::{Echo, ask, ask_datagram};
use weir_tests::need;
use weir_tests::world::{Process, World, inside};

pub(crate) const VIP: &str = "203.0.113.1";
pub(crate) const VIP6: &str = "2001:db8:f::1";
pub(crate) const PORT: u16 = 7000;
pub(crate) const BACKENDS: [&str; 3] = ["backend1", "backend2", "backend3"];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Three backends that take packets for the VIP, Weir before them, and two clients.
pub(crate) struct Vips {
    pub(crate) weir: Balancer,
    pub(crate) echoes: Vec<Echo>,
    pub(crate) decapsulators: Vec<Process>,
    pub(crate) world: World,
}

impl Vips {
    /// Weir with this configuration; NAT is for backends at their own address.
    pub(crate) fn start(sections: &str) -> Self {
        Self::start_with(sections, "driver")
    }

    /// The same, with the decapsulators of the backends in another place.
    fn start_with(sections: &str, hook: &str) -> Self {
        let world = World::new().unwrap();
        world.route().unwrap();
        let (mut decapsulators, mut echoes) = (Vec::new(), Vec::new());
        for name in BACKENDS {
            let namespace = world.host(name);
            let mut command = World::command(&namespace, need::weir());
            command.args(["backend", VIP, VIP6, "--interface", "eth0", "--mode", hook]);
            decapsulators.push(Process::start(&mut command).unwrap());
            wait_for_address(&namespace, VIP);
            wait_for_address(&namespace, VIP6);
            let own = [World::address(name), World::address6(name)];
            let own = own.iter().map(String::as_str).chain([VIP, VIP6]);
            let addresses: Vec<_> = own.map(|ip| at(ip, PORT)).collect();
            echoes.push(Echo::start(&namespace, name, &addresses).unwrap());
        }
        let weir = Balancer::start_in(Some(&world.weir()), sections);
        for client in ["client1", "client2"] {
            // The client's card needs a program, or what is redirected to it vanishes.
            let namespace = world.host(client);
            let mut command = World::command(&namespace, need::weir());
            command.args(["backend", "192.0.2.99", "--interface", "eth0", "--mode", "driver"]);
            decapsulators.push(Process::start(&mut command).unwrap());
            wait_for_address(&namespace, "192.0.2.99");
        }
        Self { weir, echoes, decapsulators, world }
    }

    /// Connects from a client.
    fn connect(&self, client: &str, vip: &str) -> Result<TcpStream> {
        inside(&self.world.host(client), || connect(at(vip, PORT)))?
    }

    /// Who answers a new connection.
    pub(crate) fn who(&self, client: &str, vip: &str) -> Result<String> {
        ask(&mut self.connect(client, vip)?, "hello")
    }

    /// Who answers a datagram of a new socket.
    fn who_datagram(&self, client: &str, vip: &str, size: usize) -> Result<String> {
        inside(&self.world.host(client), || {
            let any = if vip.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(at(vip, PORT))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            ask_datagram(&socket, &"x".repeat(size))
        })?
    }

    /// How often each backend answers so many connections and datagrams.
    fn spread(&self, vip: &str, count: usize) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for _ in 0..count {
            *spread.entry(self.who("client1", vip).unwrap()).or_default() += 1;
            *spread.entry(self.who_datagram("client2", vip, 10).unwrap()).or_default() += 1;
        }
        spread
    }
}

pub(crate) fn at(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().unwrap(), port).into()
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(crate) fn wait_for_address(namespace: &str, address: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let output = World::command(namespace, "ip").args(["address"]).output().unwrap();
        if String::from_utf8_lossy(&output.stdout).contains(&format!("{address}/")) {
            return;
        }
        assert!(Instant::now() < deadline, "{address} does not come to {namespace}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The configuration of two VIPs, one a family, with TCP and UDP of one port.
pub(crate) fn sections(forward: &str, upstream: &str) -> String {
    let vip = |name: &str, ip: &str, protocol: &str, upstream: &str| {
        format!(
            "  - {{ name: {name}, address: \"{ip}:{PORT}/{protocol}\", upstream: {upstream}, \
             forward: {forward}, idle: 5s }}\n"
        )
    };
    let v6 = format!("[{VIP6}]");
    let vips = vip("tcp4", VIP, "tcp", "four")
        + &vip("udp4", VIP, "udp", "four")
        + &vip("tcp6", &v6, "tcp", "six")
        + &vip("udp6", &v6, "udp", "six");
    let targets = |address: &dyn Fn(&str) -> String| {
        let all: Vec<_> = BACKENDS.iter().map(|name| format!("\"{}\"", address(name))).collect();
        all.join(", ")
    };
    let four = targets(&|name| format!("{}:{PORT}", World::address(name)));
    let six = targets(&|name| format!("[{}]:{PORT}", World::address6(name)));
    format!(
        "kernel: {{ interfaces: [client1, client2, backend1, backend2, backend3], mode: driver, pin: off }}\n\
         vips:\n{vips}\
         upstreams:\n  - {{ name: four, targets: [{four}]{upstream} }}\n  - {{ name: six, targets: [{six}]{upstream} }}\n"
    )
}

fn every_backend_answers(forward: &str) {
    if need::root() && need::tool("ethtool") {
        answers(forward, &Vips::start(&sections(forward, "")));
    }
}

/// The decapsulator at tc, and as a generic XDP program.
#[test]
fn backends_unwrap_in_other_places_too() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    for hook in ["tc", "generic"] {
        for forward in ["ipip", "gue"] {
            answers(forward, &Vips::start_with(&sections(forward, ""), hook));
        }
    }
}

fn answers(forward: &str, vips: &Vips) {
    for vip in [VIP, VIP6] {
        let spread = vips.spread(vip, 24);
        assert_eq!(spread.len(), 3, "{forward} {vip}: {spread:?}");
        // More than one packet of a flow, and more than one packet fits.
        let mut stream = vips.connect("client1", vip).unwrap();
        let first = ask(&mut stream, "x").unwrap();
        for size in [1_000, 5_000, 60_000] {
            assert_eq!(ask(&mut stream, &"y".repeat(size)).unwrap(), first, "{forward} {vip}");
        }
        vips.who_datagram("client1", vip, 1_200).unwrap();
    }
}

#[test]
fn ipip() {
    every_backend_answers("ipip");
}

#[test]
fn gue() {
    every_backend_answers("gue");
}

#[test]
fn l2() {
    every_backend_answers("l2");
}

#[test]
fn nat() {
    every_backend_answers("nat");
}

/// Long-lived connections of a client, each with who answers it.
pub(crate) struct Held {
    streams: Vec<(TcpStream, String)>,
}

impl Held {
    pub(crate) fn open(vips: &Vips, vip: &str, count: usize) -> Self {
        Self::open_from(vips, "client1", vip, count)
    }

    pub(crate) fn open_from(vips: &Vips, client: &str, vip: &str, count: usize) -> Self {
        let streams = inside(&vips.world.host(client), || {
            let open = |_| {
                let mut stream = connect(at(vip, PORT))?;
                let name = ask(&mut stream, "first")?;
                anyhow::Ok((stream, name))
            };
            (0..count).map(open).collect::<Result<Vec<_>>>()
        });
        Self { streams: streams.unwrap().unwrap() }
    }

    /// Every connection still goes to who answered it first, but for those of the dead.
    pub(crate) fn check(&mut self, what: &str, dead: &[&str]) {
        for (index, (stream, name)) in self.streams.iter_mut().enumerate() {
            if dead.contains(&name.as_str()) {
                continue;
            }
            let answer = ask(stream, &format!("{what} {index}"));
            assert_eq!(answer.ok().as_ref(), Some(&*name), "{what}: connection {index} is broken");
        }
    }

    pub(crate) fn of(&self, name: &str) -> usize {
        self.streams.iter().filter(|(_, own)| own == name).count()
    }
}

/// Only these targets, with a weight each.
fn targets(weights: &[(&str, u16)]) -> String {
    let target = |(name, weight): &(&str, u16)| {
        format!("{{ address: \"{}:{PORT}\", weight: {weight} }}", World::address(name))
    };
    let all: Vec<_> = weights.iter().map(target).collect();
    format!("targets: [{}]", all.join(", "))
}

pub(crate) fn with_targets(sections: &str, weights: &[(&str, u16)]) -> String {
    let (before, rest) = sections.split_once("targets: [").unwrap();
    let (_, after) = rest.split_once(']').unwrap();
    format!("{before}{}{after}", targets(weights))
}

pub(crate) fn moving(vips: &Vips) -> u64 {
    let status = vips.weir.status();
    let all = status["vips"].as_array().unwrap();
    all.iter().map(|vip| vip["moving_slots"].as_u64().unwrap()).sum()
}

fn changes_break_no_connection(forward: &str) {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let health =
        ", health: { active: { type: tcp, interval: 100ms, timeout: 100ms, rise: 1, fall: 2 } }";
    let all = sections(forward, health);
    let mut vips = Vips::start(&with_targets(&all, &[("backend1", 100), ("backend2", 100)]));
    let mut held = Held::open(&vips, VIP, 200);
    assert!(held.of("backend1") > 50 && held.of("backend2") > 50);
    for (what, weights) in [
        ("added", &[("backend1", 100), ("backend2", 100), ("backend3", 100)][..]),
        ("weighted", &[("backend1", 300), ("backend2", 100), ("backend3", 50)]),
        ("drained", &[("backend1", 0), ("backend2", 100), ("backend3", 100)]),
        ("removed", &[("backend2", 100), ("backend3", 100)]),
        ("back", &[("backend1", 100), ("backend2", 100), ("backend3", 100)]),
    ] {
        vips.weir.write(&with_targets(&all, weights));
        vips.weir.ok(&["reload"]);
        held.check(what, &[]);
        held.check(what, &[]);
        let answers: Vec<_> = (0..8).map(|_| vips.who("client2", VIP).unwrap()).collect();
        let listed: Vec<_> =
            weights.iter().filter(|(_, weight)| *weight > 0).map(|(name, _)| *name).collect();
        assert!(answers.iter().all(|name| listed.contains(&name.as_str())), "{what}: {answers:?}");
    }
    assert!(moving(&vips) > 0);
    // One dies: its own connections are lost, nobody else's.
    vips.echoes.remove(1);
    vips.decapsulators[1].kill();
    vips.weir.wait_until("backend2 has no slots", |status| {
        let backends = status["vips"][0]["backends"].as_array().unwrap();
        let dead = format!("{}:{PORT}", World::address("backend2"));
        backends.iter().all(|backend| backend["address"] != dead || backend["slots"] == 0)
    });
    held.check("one is dead", &["backend2"]);
    let answers: Vec<_> = (0..12).map(|_| vips.who("client2", VIP).unwrap()).collect();
    assert!(answers.iter().all(|name| name != "backend2"), "{answers:?}");
}

#[test]
fn changes_break_no_connection_by_ipip() {
    changes_break_no_connection("ipip");
}

#[test]
fn changes_break_no_connection_by_gue() {
    changes_break_no_connection("gue");
}

#[test]
fn changes_break_no_connection_by_l2() {
    changes_break_no_connection("l2");
}

#[test]
fn changes_break_no_connection_by_nat() {
    changes_break_no_connection("nat");
}

/// Another upstream, another name, another `idle`: flows stay where they are.
#[test]
fn a_vip_that_changes_its_upstream_breaks_no_connection() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let all = sections("l2", "");
    let first = with_targets(&all, &[("backend1", 100), ("backend2", 100)]);
    let vips = Vips::start(&first);
    let mut held = Held::open(&vips, VIP, 60);
    let other = format!("  - {{ name: other, {} }}\n", targets(&[("backend3", 100)]));
    let mut config = first.clone() + &other;
    for (what, from, to) in [
        (
            "another upstream",
            "name: tcp4, address: \"203.0.113.1:7000/tcp\", upstream: four",
            "name: tcp4, address: \"203.0.113.1:7000/tcp\", upstream: other",
        ),
        ("another name", "name: tcp4", "name: renamed"),
        ("another idle", "idle: 5s", "idle: 7s"),
        ("the upstream of before", "upstream: other", "upstream: four"),
    ] {
        assert!(config.contains(from), "{what}");
        config = config.replacen(from, to, if what == "another idle" { 9 } else { 1 });
        vips.weir.write(&config);
        vips.weir.ok(&["reload"]);
        held.check(what, &[]);
        let answer = vips.who("client2", VIP).unwrap();
        let is_other = config.contains("upstream: other");
        assert_eq!(answer == "backend3", is_other, "{what}: {answer}");
    }
}

/// Slots settle once the flows that they had are silent, and nothing is remembered from then on.
#[test]
fn slots_settle() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let all = sections("l2", "").replace("idle: 5s", "idle: 2s");
    let vips = Vips::start(&with_targets(&all, &[("backend1", 100), ("backend2", 100)]));
    let held = Held::open(&vips, VIP, 20);
    vips.weir.write(&all);
    vips.weir.ok(&["reload"]);
    assert!(moving(&vips) > 0);
    drop(held);
    vips.weir.wait_until("slots have settled", |status| {
        let all = status["vips"].as_array().unwrap();
        all.iter().all(|vip| vip["moving_slots"] == 0)
    });
    assert_eq!(vips.spread(VIP, 24).len(), 3);
}

#[test]
fn a_flow_is_explained_as_it_goes() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let vips = Vips::start(&sections("ipip", ""));
    for _ in 0..12 {
        let mut stream = vips.connect("client1", VIP).unwrap();
        let name = ask(&mut stream, "who").unwrap();
        let client = stream.local_addr().unwrap().to_string();
        let told = vips.weir.ok(&["flow", "explain", &client, &format!("{VIP}:{PORT}"), "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["backend"], format!("{}:{PORT}", World::address(&name)), "{told}");
    }
    let client = format!("{}:40000", World::address("client1"));
    let told = vips.weir.ok(&["flow", "explain", &client, "203.0.113.9:80", "--udp"]);
    assert!(told.contains("is no VIP"), "{told}");
    vips.weir.ok(&["ban", "add", &World::address("client1")]);
    let told = vips.weir.ok(&["flow", "explain", &client, &format!("{VIP}:{PORT}")]);
    assert!(told.contains("dropped: banned by 198.18.1.2/32") && !told.contains("slot"), "{told}");
}

/// A ping of the VIP is answered here.
#[test]
fn a_ping_is_answered() {
    if !(need::root() && need::tool("ethtool") && need::tool("ping")) {
        return;
    }
    let vips = Vips::start(&sections("ipip", ""));
    for vip in [VIP, VIP6] {
        let mut ping = World::command(&vips.world.host("client1"), "ping");
        let output =
            ping.args(["-c", "3", "-i", "0.1", "-s", "500", "-W", "2", vip]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(" 0% packet loss"), "{text}");
    }
}

/// Bulk transfers both ways, as fast as they go.
#[test]
fn iperf3_runs_over_a_vip() {
    if !(need::root() && need::tool("ethtool") && need::tool("iperf3")) {
        return;
    }
    for forward in ["ipip", "gue", "l2", "nat"] {
        let port = 5201;
        // Control and data are two connections: both must come to the same server.
        let sections = sections(forward, "").replace("idle:", "hash: source, idle:");
        let vips = Vips::start(&sections.replace(&format!(":{PORT}"), &format!(":{port}")));
        let mut servers = Vec::new();
        for name in BACKENDS {
            let mut command = World::command(&vips.world.host(name), "iperf3");
            servers.push(Process::start(command.args(["-s", "-p", &port.to_string()])).unwrap());
        }
        for (vip, more) in [(VIP, &[][..]), (VIP, &["-R"]), (VIP6, &[])] {
            let deadline = Instant::now() + Duration::from_secs(20);
            let run = || {
                let mut command = World::command(&vips.world.host("client1"), "iperf3");
                command.args(["-c", vip, "-p", &port.to_string(), "-t", "1", "--json"]).args(more);
                let output = command.output().unwrap();
                let told: serde_json::Value =
                    serde_json::from_slice(&output.stdout).unwrap_or_default();
                told["end"]["sum_received"]["bits_per_second"].as_f64()
            };
            let rate = loop {
                if let Some(rate) = run() {
                    break rate;
                }
                assert!(Instant::now() < deadline, "iperf3 to {vip} by {forward} {more:?}");
            };
            eprintln!("iperf3 {forward} {vip} {more:?}: {:.2} Gbit/s", rate / 1e9);
            assert!(rate > 50e6, "{rate} bits a second to {vip} by {forward} {more:?}");
        }
    }
}
