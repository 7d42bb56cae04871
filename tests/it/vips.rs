//! VIPs between hosts: client — veth — Weir with XDP in driver mode — veth — backends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use weir_tests::balancer::Balancer;
use weir_tests::echo::{Echo, ask, ask_datagram};
use weir_tests::need;
use weir_tests::world::{Process, World, inside};

const VIP: &str = "203.0.113.1";
const VIP6: &str = "2001:db8:f::1";
const PORT: u16 = 7000;
const BACKENDS: [&str; 3] = ["backend1", "backend2", "backend3"];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Three backends that take packets for the VIP, Weir before them, and two clients.
struct Vips {
    weir: Balancer,
    echoes: Vec<Echo>,
    decapsulators: Vec<Process>,
    world: World,
}

impl Vips {
    /// Weir with this configuration; NAT is for backends at their own address.
    fn start(sections: &str) -> Self {
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
    fn who(&self, client: &str, vip: &str) -> Result<String> {
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

fn at(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().unwrap(), port).into()
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn wait_for_address(namespace: &str, address: &str) {
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
fn sections(forward: &str, upstream: &str) -> String {
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
struct Held {
    streams: Vec<(TcpStream, String)>,
}

impl Held {
    fn open(vips: &Vips, vip: &str, count: usize) -> Self {
        Self::open_from(vips, "client1", vip, count)
    }

    fn open_from(vips: &Vips, client: &str, vip: &str, count: usize) -> Self {
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
    fn check(&mut self, what: &str, dead: &[&str]) {
        for (index, (stream, name)) in self.streams.iter_mut().enumerate() {
            if dead.contains(&name.as_str()) {
                continue;
            }
            let answer = ask(stream, &format!("{what} {index}"));
            assert_eq!(answer.ok().as_ref(), Some(&*name), "{what}: connection {index} is broken");
        }
    }

    fn of(&self, name: &str) -> usize {
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

fn with_targets(sections: &str, weights: &[(&str, u16)]) -> String {
    let (before, rest) = sections.split_once("targets: [").unwrap();
    let (_, after) = rest.split_once(']').unwrap();
    format!("{before}{}{after}", targets(weights))
}

fn moving(vips: &Vips) -> u64 {
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

/// Without a process packets go on as before; a new one takes everything over.
#[test]
fn a_killed_process_interrupts_no_flow() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let folder = crate::bans_survive::BpfFolder::mount();
    let pin = format!("pin: \"{}\"", folder.pins().display());
    let all = sections("ipip", "").replace("pin: off", &pin).replace("idle: 5s", "idle: 60s");
    let mut vips = Vips::start(&with_targets(&all, &[("backend1", 100), ("backend2", 100)]));
    let mut held = Held::open(&vips, VIP, 60);
    vips.weir.write(&all);
    vips.weir.ok(&["reload"]);
    let (slots, before) = (moving(&vips), vips.weir.status()["vips"][0]["packets"].clone());
    assert!(slots > 0);
    vips.weir.signal(Signal::SIGKILL);
    assert!(!vips.weir.wait());
    held.check("nobody is there", &[]);
    assert!(vips.who("client2", VIP).is_ok());
    vips.weir = Balancer::start_in(Some(&vips.world.weir()), &all);
    held.check("a new process", &[]);
    // What was moving still is, and what was counted is not forgotten.
    assert_eq!(moving(&vips), slots);
    assert!(vips.weir.status()["vips"][0]["packets"].as_u64() > before.as_u64());
    vips.weir.write(&with_targets(&all, &[("backend2", 100), ("backend3", 100)]));
    vips.weir.ok(&["reload"]);
    held.check("changed by the new process", &[]);
    // Who serves a VIP is not forgotten either.
    vips.weir.ok(&["vip", "move", "tcp4", "local"]);
    vips.weir.signal(Signal::SIGKILL);
    assert!(!vips.weir.wait());
    vips.weir = Balancer::start_in(Some(&vips.world.weir()), &all);
    assert_eq!(vips.weir.status()["vips"][0]["forward"], "local");
    held.check("moved to listeners of this host, and killed", &[]);
    vips.weir.ok(&["vip", "move", "tcp4", "forward"]);
    assert!(vips.who("client2", VIP).unwrap().starts_with("backend"));
    held.check("moved back", &[]);
    vips.weir.ok(&["stop", "--detach"]);
    assert!(vips.weir.wait());
}

/// A backend that was down when the process died gets no slots from the next one, not even until its first
/// probe.
#[test]
fn who_was_down_is_still_down_after_a_restart() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let folder = crate::bans_survive::BpfFolder::mount();
    let pin = format!("pin: \"{}\"", folder.pins().display());
    let health =
        ", health: { active: { type: tcp, interval: 100ms, timeout: 100ms, rise: 1, fall: 1 } }";
    let all = sections("l2", health).replace("pin: off", &pin);
    let mut vips = Vips::start(&all);
    vips.echoes.remove(1);
    vips.decapsulators[1].kill();
    let dead = format!("{}:{PORT}", World::address("backend2"));
    vips.weir.wait_until("backend2 has no slots", |status| {
        let backends = status["vips"][0]["backends"].as_array().unwrap();
        backends.iter().all(|backend| backend["address"] != dead || backend["slots"] == 0)
    });
    assert_eq!(moving(&vips), 0);
    vips.weir.signal(Signal::SIGKILL);
    assert!(!vips.weir.wait());
    // Without probes for a while: what is known must be enough.
    vips.weir = Balancer::start_in(
        Some(&vips.world.weir()),
        &all.replace("interval: 100ms", "interval: 60s"),
    );
    assert_eq!(moving(&vips), 0, "slots went to the dead and back");
    for _ in 0..12 {
        assert_ne!(vips.who("client2", VIP).unwrap(), "backend2");
    }
    vips.weir.ok(&["stop", "--detach"]);
    assert!(vips.weir.wait());
}

/// The address is a VIP on all ports but one, where a listener of this host is; and it can be moved.
#[test]
fn a_vip_and_listeners_share_an_address_and_move() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let four: Vec<_> =
        BACKENDS.iter().map(|name| format!("\"{}:{PORT}\"", World::address(name))).collect();
    let sections = format!(
        "kernel: {{ interfaces: [client1, client2, backend1, backend2, backend3], mode: driver, pin: off }}\n\
         vips: [{{ name: all, address: \"{VIP}:*/tcp\", upstream: four, forward: nat, idle: 60s }}]\n\
         listeners: [{{ name: web, address: \"0.0.0.0:8000\" }}]\n\
         upstreams: [{{ name: four, targets: [{}] }}]\n",
        four.join(", ")
    );
    let vips = Vips::start(&sections);
    let lb = vips.world.weir();
    let lo = World::command(&lb, "ip")
        .args(["address", "add", &format!("{VIP}/32"), "dev", "lo"])
        .status();
    assert!(lo.unwrap().success());
    let here = Echo::start(&lb, "here", &[at(VIP, PORT)]).unwrap();
    assert!(vips.who("client1", VIP).unwrap().starts_with("backend"));
    let status = inside(&vips.world.host("client1"), || {
        weir_tests::client::Client::connect(at(VIP, 8000)).get("/").status
    });
    assert_eq!(status.unwrap(), 404, "the listener of this host has no routes");
    let mut held = Held::open(&vips, VIP, 20);
    let told = vips.weir.ok(&["vip", "move", "all", "local"]);
    assert!(told.contains("new flows of all go to listeners of this host"), "{told}");
    assert_eq!(vips.who("client1", VIP).unwrap(), "here");
    held.check("moved here", &[]);
    let mut local = Held::open(&vips, VIP, 10);
    assert_eq!(local.of("here"), 10);
    vips.weir.ok(&["vip", "move", "all", "forward"]);
    assert!(vips.who("client2", VIP).unwrap().starts_with("backend"));
    held.check("moved back", &[]);
    local.check("moved back", &[]);
    let refused = vips.weir.weir(&["vip", "move", "nobody", "local"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no VIP `nobody`; known: all"));
    drop(here);
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

/// Two balancers behind a router with two ways; one goes, and no flow notices, because both know the same
/// table and nothing else.
///
/// ```text
/// backend3 (the client) ── client1 (the router) ─┬─ weir ──────────────── backend1, backend2
///                                                └─ client2 (weir, too) ── by weir's host
/// ```
#[test]
fn two_balancers_agree_without_talking() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let all = with_targets(&sections("ipip", ""), &[("backend1", 100), ("backend2", 100)]);
    let mut vips = Vips::start(&all);
    let [first, router, second, client] = [
        vips.world.weir(),
        vips.world.host("client1"),
        vips.world.host("client2"),
        vips.world.host("backend3"),
    ];
    // Who is something else here: the client no backend, the second balancer no client.
    drop(vips.echoes.pop());
    vips.decapsulators.remove(2).kill();
    vips.decapsulators.pop().unwrap().kill();
    let run = |namespace: &str, words: &str| {
        let status = World::command(namespace, "ip").args(words.split(' ')).status().unwrap();
        assert!(status.success(), "{words}");
    };
    for (peer, network, ours, theirs) in
        [(&second, 20, "way2", "eth1"), (&client, 30, "home", "eth1")]
    {
        run(&router, &format!("link add {ours} type veth peer name {theirs} netns {peer}"));
        for (namespace, device, last) in [(&router, ours, 1), (peer, theirs, 2)] {
            run(namespace, &format!("address add 198.18.{network}.{last}/24 dev {device}"));
            run(namespace, &format!("link set {device} up"));
            let offload = ["-K", device, "tx", "off", "gro", "on"];
            World::command(namespace, "ethtool").args(offload).output().unwrap();
        }
    }
    for (namespace, key) in
        [(&router, "ip_forward"), (&router, "fib_multipath_hash_policy"), (&second, "ip_forward")]
    {
        let write = || std::fs::write(format!("/proc/sys/net/ipv4/{key}"), "1");
        inside(namespace, write).unwrap().unwrap();
    }
    run(&client, &format!("address delete {VIP}/32 dev lo"));
    run(&client, &format!("route add {VIP}/32 via 198.18.30.1"));
    run(&first, "route add 198.18.30.0/24 via 198.18.1.2");
    let config = all.replace(
        "interfaces: [client1, client2, backend1, backend2, backend3]",
        "interfaces: [eth0, eth1]",
    );
    let other = Balancer::start_in(Some(&second), &config);
    let (one, two) = ("198.18.1.1", "198.18.20.2");
    run(&router, &format!("route add {VIP}/32 nexthop via {one} nexthop via {two}"));
    let mut held = Held::open_from(&vips, "backend3", VIP, 60);
    held.check("two balancers", &[]);
    let flows = |weir: &Balancer| weir.status()["vips"][0]["flows"].as_u64().unwrap();
    let (by_first, by_second) = (flows(&vips.weir), flows(&other));
    assert!(by_first > 5 && by_second > 5, "{by_first} flows by one, {by_second} by the other");
    run(&router, &format!("route replace {VIP}/32 via {one}"));
    held.check("the second is gone", &[]);
    run(&router, &format!("route replace {VIP}/32 via {two}"));
    held.check("the first is gone", &[]);
}

/// Bulk transfers both ways, as fast as they go.
#[test]
fn iperf3_runs_over_a_vip() {
    if !(need::root() && need::tool("ethtool") && need::tool("iperf3")) {
        return;
    }
    for forward in ["ipip", "nat"] {
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
