//! What VIPs survive: the process, a move to this host and back, one of two balancers.

use nix::sys::signal::Signal;
use weir_tests::balancer::Balancer;
use weir_tests::echo::Echo;
use weir_tests::need;
use weir_tests::world::{World, inside};

use crate::vips::{BACKENDS, Held, PORT, VIP, Vips, at, moving, sections, with_targets};

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
    if need::root() && need::tool("ethtool") {
        share_an_address_and_move("");
    }
}

/// The same while both are attacked: SYNs are challenged there, and get cookies here.
#[test]
fn a_vip_that_is_attacked_moves() {
    if need::root() && need::tool("ethtool") {
        share_an_address_and_move(", guard: { syn: always }");
    }
}

fn share_an_address_and_move(guard: &str) {
    let four: Vec<_> =
        BACKENDS.iter().map(|name| format!("\"{}:{PORT}\"", World::address(name))).collect();
    let sections = format!(
        "kernel: {{ interfaces: [client1, client2, backend1, backend2, backend3], mode: driver, pin: off{guard} }}\n\
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
