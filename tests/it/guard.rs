//! The flood guard between hosts: client — veth — Weir with XDP in driver mode, under real floods.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use weir_tests::balancer::Balancer;
use weir_tests::client::Client;
use weir_tests::flood::{Flooding, LINUX_OPTIONS, mac};
use weir_tests::need;
use weir_tests::world::{Process, World, inside};

use crate::vips::{self, PORT, VIP, Vips, at};

/// Where Weir listens.
const LISTENER: u16 = 8000;
const PATIENCE: Duration = Duration::from_secs(3);
/// All sources but those that route somewhere of their own.
const ALL: u32 = 0x3fff_ffff;

/// Weir with a listener, which answers by itself: no route leads anywhere.
struct Guarded {
    weir: Balancer,
    world: World,
    _passes: Vec<Process>,
}

impl Guarded {
    fn start(guard: &str) -> Self {
        let world = World::new().unwrap();
        world.route().unwrap();
        let weir = Balancer::start_in(Some(&world.weir()), &Self::sections(guard));
        // What Weir answers by XDP reaches a card only if that has a program.
        let namespace = world.host("client2");
        let mut command = World::command(&namespace, need::weir());
        command.args(["backend", "192.0.2.99", "--interface", "eth0", "--mode", "driver"]);
        let passes = vec![Process::start(&mut command).unwrap()];
        vips::wait_for_address(&namespace, "192.0.2.99");
        Self { weir, world, _passes: passes }
    }

    fn sections(guard: &str) -> String {
        format!(
            "kernel: {{ interfaces: [client1, client2], mode: driver, pin: off, guard: {{ {guard} }} }}\n\
             listeners: [{{ name: web, address: \"[::]:{LISTENER}\" }}]\n"
        )
    }

    fn state(&self) -> String {
        self.weir.status()["guard"]["guarded"][0]["state"].as_str().unwrap().to_owned()
    }

    fn wait_for(&self, state: &str) {
        self.weir.wait_until(state, |status| status["guard"]["guarded"][0]["state"] == state);
    }

    /// Packets that ended so.
    fn packets(&self, reason: &str) -> u64 {
        packets(&self.weir, reason)
    }

    fn flood(&self, frame: &str, spread: u32, rate: Option<u32>) -> Flooding {
        let to = mac(&self.world.weir(), "client1").unwrap();
        Flooding::start(&self.world.host("client1"), to, frame, spread, rate).unwrap()
    }

    /// A request from the other client, on a connection of its own: how long it took to connect.
    fn request(&self, address: SocketAddr) -> Option<Duration> {
        inside(&self.world.host("client2"), || request(address)).unwrap()
    }

    fn sysctls(&self) -> [String; 2] {
        ["syncookies", "timestamps"].map(|name| sysctl(&self.world.weir(), &format!("tcp_{name}")))
    }
}

fn packets(weir: &Balancer, reason: &str) -> u64 {
    let status = weir.status();
    let verdicts = status["kernel"]["verdicts"].as_array().unwrap().clone();
    let found = verdicts.iter().find(|verdict| verdict["reason"] == reason);
    found.and_then(|verdict| verdict["packets"].as_u64()).unwrap()
}

fn sysctl(namespace: &str, name: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/{name}");
    inside(namespace, || std::fs::read_to_string(&path).unwrap().trim().to_owned()).unwrap()
}

fn set_sysctl(namespace: &str, name: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv4/{name}");
    inside(namespace, || std::fs::write(&path, value).unwrap()).unwrap();
}

fn request(address: SocketAddr) -> Option<Duration> {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    let took = began.elapsed();
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    answer.starts_with(b"HTTP/1.1 404").then_some(took)
}

fn four() -> SocketAddr {
    at(&World::weir_address("client2"), LISTENER)
}

fn six() -> SocketAddr {
    at("fd00:2::1", LISTENER)
}

fn syn(to: &str) -> String {
    format!("ipv4 16.0.0.1 > {to} > tcp 40000 > {LISTENER} flags 02 ack 0 options {LINUX_OPTIONS}")
}

/// What both ends of an open connection say of it (`ss -ti`): the options that were negotiated.
fn negotiated(world: &World, address: SocketAddr) -> [BTreeSet<String>; 2] {
    let stream = inside(&world.host("client2"), || TcpStream::connect_timeout(&address, PATIENCE));
    let mut stream = stream.unwrap().unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    let port = stream.local_addr().unwrap().port();
    [world.host("client2"), world.weir()].map(|namespace| {
        let mut command = World::command(&namespace, "ss");
        let filter = format!("( sport = :{port} or dport = :{port} )");
        let output = command.args(["-tinemH", &filter]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        const TOLD: [&str; 6] = ["ts", "sack", "ecn", "wscale:", "mss:", "advmss:"];
        let is_told = |word: &&str| {
            TOLD.iter().any(|told| told == word || told.ends_with(':') && word.starts_with(told))
        };
        let found: BTreeSet<_> =
            text.split_whitespace().filter(is_told).map(str::to_owned).collect();
        assert!(found.iter().any(|word| word.starts_with("mss:")), "{text}");
        found
    })
}

#[test]
fn cookies_bring_the_options_that_the_host_would() {
    if !(need::root() && need::tool("ethtool") && need::tool("ss")) {
        return;
    }
    let guarded = Guarded::start("");
    let client = guarded.world.host("client2");
    for (name, value, before) in [
        ("tcp_ecn", "1", "2"),
        ("tcp_ecn", "2", "2"),
        ("tcp_sack", "0", "1"),
        ("tcp_window_scaling", "0", "1"),
    ] {
        set_sysctl(&client, name, value);
        guarded.weir.ok(&["guard", "set", "web", "off"]);
        guarded.wait_for("off");
        let without = [four(), six()].map(|address| negotiated(&guarded.world, address));
        let has_ecn = without.iter().flatten().any(|told| told.contains("ecn"));
        assert_eq!(has_ecn, value == "1", "{without:?}");
        guarded.weir.ok(&["guard", "set", "web", "attack"]);
        guarded.wait_for("attack");
        let made = guarded.packets("syn_cookie");
        for _ in 0..8 {
            let with = [four(), six()].map(|address| negotiated(&guarded.world, address));
            assert_eq!(with, without, "{name} {value}");
        }
        assert!(guarded.packets("syn_cookie") >= made + 16, "{}", guarded.weir.ok(&["status"]));
        set_sysctl(&client, name, before);
    }
    // Without times a cookie has room for the largest segment alone; the connection works.
    set_sysctl(&client, "tcp_timestamps", "0");
    for _ in 0..8 {
        assert!(guarded.request(four()).is_some() && guarded.request(six()).is_some());
    }
}

#[test]
fn a_listener_serves_under_a_spoofed_flood_and_is_calm_again() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let guarded = Guarded::start("syn-rate: 5000, calm-after: 1s");
    assert_eq!(guarded.sysctls(), ["1", "1"]);
    assert!(guarded.request(four()).is_some());
    assert_eq!(guarded.state(), "calm");
    for (frame, address) in [
        (syn(&World::weir_address("client2")), four()),
        (
            format!(
                "ipv6 2001:db8::1 > fd00:2::1 > tcp 40000 > {LISTENER} flags 02 ack 0 options {LINUX_OPTIONS}"
            ),
            six(),
        ),
    ] {
        let flood = guarded.flood(&frame, ALL, None);
        guarded.wait_for("attack");
        assert_eq!(guarded.sysctls(), ["2", "2"]);
        let (mut asked, mut failed) = (0, 0);
        while asked < 200 || flood.sent() < 200_000 {
            asked += 1;
            failed += usize::from(guarded.request(address).is_none());
        }
        let sent = flood.stop();
        assert_eq!(failed, 0, "of {asked} under {sent} SYNs");
        guarded.wait_for("calm");
    }
    assert!(guarded.packets("syn_cookie") > 10_000);
    // And the kernel is as it was, by itself.
    let deadline = Instant::now() + Duration::from_secs(15);
    while guarded.sysctls() != ["1", "1"] {
        assert!(Instant::now() < deadline, "{:?}", guarded.sysctls());
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = guarded.weir.log();
    assert!(log.contains("guard: web") && log.contains("to attack"), "{log}");
}

#[test]
fn acks_and_resets_of_nobody_do_not_get_in_and_connections_go_on() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let guarded = Guarded::start("");
    let open = || inside(&guarded.world.host("client2"), || TcpStream::connect(four()));
    let mut held = open().unwrap().unwrap();
    guarded.weir.ok(&["guard", "set", "web", "attack"]);
    guarded.wait_for("attack");
    let to = World::weir_address("client2");
    for (flags, reason) in
        [("10", "bad_ack"), ("18", "bad_ack"), ("04", "stray_reset"), ("01", "stray_reset")]
    {
        let before = (guarded.packets(reason), guarded.packets("clean"));
        let frame = format!("ipv4 16.0.0.1 > {to} > tcp 40000 > {LISTENER} flags {flags}");
        let flood = guarded.flood(&frame, ALL, None);
        while flood.sent() < 100_000 {
            assert!(guarded.request(four()).is_some());
        }
        drop(flood);
        // A veth that is full loses some before; what passes is the client's, and a few resets a second.
        let dropped = guarded.packets(reason) - before.0;
        let passed = guarded.packets("clean") - before.1;
        assert!(
            dropped > 50_000 && passed < dropped / 10,
            "{flags}: {dropped} dropped, {passed} passed"
        );
    }
    held.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(held.read(&mut [0; 1024]).unwrap() > 0);
}

/// What was changed for cookies is put back by the next start, if nobody else could.
#[test]
fn a_killed_process_leaves_nothing_changed_for_long() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let guarded = Guarded::start("syn: always");
    guarded.wait_for("attack");
    assert_eq!(guarded.sysctls(), ["2", "2"]);
    // Whoever else sets them while they are needed does not break connections for long.
    set_sysctl(&guarded.world.weir(), "tcp_timestamps", "1");
    let deadline = Instant::now() + Duration::from_secs(10);
    while guarded.sysctls() != ["2", "2"] {
        assert!(Instant::now() < deadline, "{:?}", guarded.sysctls());
        std::thread::sleep(Duration::from_millis(20));
    }
    let state = guarded.weir.file("state");
    guarded.weir.signal(nix::sys::signal::Signal::SIGKILL);
    let sections = Guarded::sections("");
    let next = format!("{sections}state: \"{}\"\n", state.display());
    let Guarded { mut weir, world, .. } = guarded;
    assert!(!weir.wait());
    let sysctls =
        || ["syncookies", "timestamps"].map(|name| sysctl(&world.weir(), &format!("tcp_{name}")));
    assert_eq!(sysctls(), ["2", "2"]);
    let _weir = Balancer::start_in(Some(&world.weir()), &next);
    let deadline = Instant::now() + Duration::from_secs(10);
    while sysctls() != ["1", "1"] {
        assert!(Instant::now() < deadline, "{:?}", sysctls());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!state.join("guard.sysctls").exists());
}

fn a_vip_is_defended(forward: &str) {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let sections = vips::sections(forward, "")
        .replace("pin: off", "pin: off, guard: { syn-rate: 5000, calm-after: 1s }");
    let vips = Vips::start(&sections);
    let before = vips.who("client2", VIP).unwrap();
    let to = mac(&vips.world.weir(), "client1").unwrap();
    let frame = format!("ipv4 16.0.0.1 > {VIP} > tcp 40000 > {PORT} flags 02 ack 0");
    // The client's card has the decapsulator's program; a flood needs its own.
    let mut vips = vips;
    let passes = vips.decapsulators.len() - 2;
    vips.decapsulators.remove(passes);
    let flood = Flooding::start(&vips.world.host("client1"), to, &frame, ALL, None).unwrap();
    vips.weir.wait_until("attack", |status| status["guard"]["guarded"][0]["state"] == "attack");
    let asked = ["flow", "explain", "192.0.2.7:40000", &format!("{VIP}:{PORT}")];
    let told = vips.weir.ok(&asked);
    assert!(told.contains("attack: SYNs are challenged"), "{told}");
    let (sent, count) = (flood.sent(), forwarded(&vips));
    let mut held = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        held.push(vips.who("client2", VIP).expect("a connection under attack"));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    let through = forwarded(&vips) - count;
    let sent = flood.stop() - sent;
    // Besides the client's own packets.
    assert!(sent > 100_000 && through < sent / 100 + 50 * 10, "{through} of {sent} went through");
    assert!(held.contains(&before));
    assert_eq!(packets(&vips.weir, "proof"), 1, "one proof is enough");
    vips.weir.wait_until("calm", |status| status["guard"]["guarded"][0]["state"] == "calm");
}

/// Packets that backends got.
fn forwarded(vips: &Vips) -> u64 {
    let status = vips.weir.status();
    let verdicts = status["kernel"]["verdicts"].as_array().unwrap().clone();
    verdicts
        .iter()
        .filter(|it| it["verdict"] == "send")
        .map(|it| it["packets"].as_u64().unwrap())
        .sum()
}

#[test]
fn a_vip_by_ipip_is_defended() {
    a_vip_is_defended("ipip");
}

#[test]
fn a_vip_by_l2_is_defended() {
    a_vip_is_defended("l2");
}

/// A VIP and a listener of one name are two, also in metrics, and both follow `guard set`.
#[test]
fn a_vip_and_a_listener_may_have_one_name() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let world = World::new().unwrap();
    let sections = format!(
        "{}vips: [{{ name: web, address: \"{VIP}:80\", upstream: u }}]\n\
         upstreams: [{{ name: u, targets: [\"{}:80\"] }}]\n",
        Guarded::sections(""),
        World::address("backend1")
    );
    let weir = Balancer::start_in(Some(&world.weir()), &sections);
    weir.ok(&["guard", "set", "web", "attack"]);
    for _ in 0..2 {
        weir.wait_until("both are attacked", |status| {
            let all = status["guard"]["guarded"].as_array().unwrap();
            let kinds: Vec<_> = all.iter().map(|it| it["kind"].as_str().unwrap()).collect();
            kinds == ["vip", "listener"] && all.iter().all(|it| it["state"] == "attack")
        });
        // A reload keeps both.
        weir.ok(&["reload"]);
    }
    let address = weir.status_address();
    let page = inside(&world.weir(), || Client::connect(address).get("/metrics").text()).unwrap();
    let mut seen = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("weir_guard_")) {
        let series = line.rsplit_once(' ').unwrap().0;
        assert!(seen.insert(series.to_owned()), "{series} stands there twice");
    }
    assert!(seen.len() >= 18, "{seen:?}");
}

/// A source over its limit is dropped, told of and banned; others and those that are allowed are not.
#[test]
fn sources_over_a_limit_are_dropped_and_banned() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let guarded =
        Guarded::start("source-packet-rate: 2000, ban: { after: 2s, ttl: 1m }, tcp-flags: dry-run");
    let to = World::weir_address("client2");
    let frame = |source: &str, flags: &str| {
        format!("ipv4 {source} > {to} > tcp 40000 > {LISTENER} flags {flags}")
    };
    guarded.weir.ok(&["allow", "add", "16.0.0.9"]);
    {
        let flood = guarded.flood(&frame("16.0.0.9", "10"), 0, Some(20_000));
        while flood.sent() < 30_000 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(guarded.packets("source_limit"), 0, "allowed");
    let flood = guarded.flood(&frame("16.0.0.1", "03"), 0, Some(20_000));
    guarded.weir.wait_until("a ban", |status| status["kernel"]["bans"] == 1);
    assert!(guarded.request(four()).is_some());
    assert!(guarded.packets("source_limit") > 1_000);
    drop(flood);
    let list = guarded.weir.ok(&["ban", "list"]);
    assert!(list.contains("16.0.0.1/32") && list.contains("rule guard"), "{list}");
    // The flags were only counted.
    let tried = guarded.weir.ok(&["guard", "list"]);
    assert!(tried.contains("tcp_flags "), "{tried}");
    assert_eq!(guarded.packets("tcp_flags"), 0);
}

#[test]
fn a_dry_run_changes_no_packet() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let guarded =
        Guarded::start("syn: always, dry-run: true, source-packet-rate: 1, source-syn-rate: 1");
    guarded.wait_for("attack");
    assert_eq!(guarded.sysctls(), ["1", "1"]);
    for _ in 0..20 {
        assert!(guarded.request(four()).is_some());
    }
    for reason in ["syn_cookie", "bad_ack", "syn_limit", "source_limit"] {
        assert_eq!(guarded.packets(reason), 0, "{reason}");
    }
    let told = guarded.weir.ok(&["guard", "list"]);
    for reason in ["syn_cookie", "syn_limit", "source_limit"] {
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn limits_are_learnt_from_what_is_seen() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let guarded = Guarded::start("");
    let to = World::weir_address("client2");
    let _flood = guarded.flood(&syn(&to), 0, Some(3_000));
    let told = guarded.weir.ok(&["guard", "learn", "--seconds", "3", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    for key in ["syn_rate", "source_syn_rate", "source_packet_rate"] {
        let (seen, limit) = (&told[key]["seen"], &told[key]["limit"]);
        let (seen, limit) = (seen.as_u64().unwrap(), limit.as_u64().unwrap());
        // Of a window that may begin in the middle.
        assert!((1_500..4_500).contains(&seen) && limit >= seen * 4, "{told}");
    }
    assert_eq!(guarded.state(), "calm");
    for (what, expected) in [
        (&["guard", "set", "nobody", "attack"][..], "known: web"),
        (&["guard", "set", "web", "maybe"], "possible values: auto, attack, off"),
    ] {
        let output = guarded.weir.weir(what);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "{text}");
    }
}
