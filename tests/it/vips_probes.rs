//! Health probes that take a VIP's way to each backend.

use std::process::Command;
use std::time::Instant;

use weir_tests::backend::Backend;
use weir_tests::client::{Client, PATIENCE};
use weir_tests::need;
use weir_tests::world::{World, inside};

use crate::vips::{BACKENDS, PORT, VIP, VIP6, Vips, at, sections};

const CHECK: &str = "interval: 50ms, timeout: 500ms, rise: 1, fall: 2";

/// Both upstreams with probes of the VIP of their family.
fn probed(forward: &str, kind: &str) -> String {
    let check = format!(", health: {{ active: {{ {kind}, vip: @, {CHECK} }} }}");
    sections(forward, &check).replacen('@', "tcp4", 1).replacen('@', "tcp6", 1)
}

fn ip(namespace: &str, arguments: &[&str]) {
    let status = Command::new("ip").args(["-n", namespace]).args(arguments).status().unwrap();
    assert!(status.success(), "ip -n {namespace} {arguments:?}");
}

/// Waits until the backends of an upstream are so, in their order.
fn wait(vips: &Vips, upstream: usize, expected: [&str; 3]) {
    vips.weir.wait_until(&format!("upstream {upstream} is {expected:?}"), |status| {
        let backends = status["upstreams"][upstream]["backends"].as_array().unwrap();
        backends.iter().zip(expected).all(|(backend, health)| backend["health"] == health)
    });
}

fn a_backend_that_does_not_serve_the_vip_is_down(forward: &str) {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let vips = Vips::start(&probed(forward, "type: tcp"));
    // A balancer that has the VIP itself probes all the same.
    ip(&vips.world.weir(), &["address", "add", &format!("{VIP}/32"), "dev", "lo"]);
    wait(&vips, 0, ["up"; 3]);
    wait(&vips, 1, ["up"; 3]);
    let host = vips.world.host(BACKENDS[1]);
    ip(&host, &["address", "del", &format!("{VIP}/32"), "dev", "lo"]);
    wait(&vips, 0, ["up", "down", "up"]);
    // Its own address answers, and the other VIP as well.
    let own = at(&World::address(BACKENDS[1]), PORT);
    inside(&vips.world.weir(), || std::net::TcpStream::connect(own)).unwrap().unwrap();
    wait(&vips, 1, ["up"; 3]);
    ip(&host, &["address", "add", &format!("{VIP}/32"), "dev", "lo"]);
    wait(&vips, 0, ["up"; 3]);
    ip(&host, &["address", "del", &format!("{VIP6}/128"), "dev", "lo"]);
    wait(&vips, 1, ["up", "down", "up"]);
    // Other probes from now on.
    vips.weir.write(&probed(forward, "type: tcp").replace("vip: tcp6, ", ""));
    vips.weir.ok(&["reload"]);
    wait(&vips, 1, ["up"; 3]);
}

#[test]
fn a_backend_that_does_not_serve_the_vip_is_down_by_ipip() {
    a_backend_that_does_not_serve_the_vip_is_down("ipip");
}

#[test]
fn a_backend_that_does_not_serve_the_vip_is_down_by_gue() {
    a_backend_that_does_not_serve_the_vip_is_down("gue");
}

#[test]
fn a_backend_that_does_not_serve_the_vip_is_down_by_l2() {
    a_backend_that_does_not_serve_the_vip_is_down("l2");
}

/// HTTP over a VIP, probes and clients; the VIP's port is not the targets' own.
#[test]
fn http_is_probed_and_served_over_the_vip() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let port = 8080;
    let sections = probed("ipip", "type: http, path: /health");
    // A busy machine is no dead backend.
    let sections = sections
        .replace("timeout: 500ms, rise: 1, fall: 2", "timeout: 3s, rise: 1, fall: 20")
        .replace(&format!("{VIP}:{PORT}/tcp"), &format!("{VIP}:{port}/tcp"))
        .replace(&format!("[{VIP6}]:{PORT}/tcp"), &format!("[{VIP6}]:{port}/tcp"));
    let vips = Vips::start(&sections);
    wait(&vips, 0, ["down"; 3]);
    let serve = |name: &&'static str, vip: &str| {
        let start = || Backend::start_at(name, at(vip, port));
        inside(&vips.world.host(name), start).unwrap()
    };
    let _servers: Vec<_> =
        BACKENDS.iter().flat_map(|name| [serve(name, VIP), serve(name, VIP6)]).collect();
    for (upstream, vip) in [(0, VIP), (1, VIP6)] {
        wait(&vips, upstream, ["up"; 3]);
        let mut seen = std::collections::BTreeSet::new();
        let deadline = Instant::now() + PATIENCE;
        // Who is up gets its slots a moment after it is told.
        while seen.len() < 3 {
            assert!(Instant::now() < deadline, "{seen:?}");
            let get = || Client::connect(at(vip, port)).get("/");
            let answer = inside(&vips.world.host("client1"), get).unwrap();
            assert_eq!(answer.status, 200);
            seen.extend(answer.header("x-backend").map(str::to_owned));
        }
    }
}

/// A probe that left without taking the VIP's way proves nothing, whoever answered it.
#[test]
fn a_probe_that_goes_another_way_is_bad() {
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let vips = Vips::start(&probed("ipip", "type: tcp").replace(", backend3]", "]"));
    wait(&vips, 0, ["up", "up", "down"]);
    let log = vips.weir.log();
    assert!(log.contains("an interface that is not one of `kernel.interfaces`"), "{log}");
}
