//! The whole way between hosts: client — veth — Weir with XDP in driver mode — veth — backends.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir_tests::balancer::Balancer;
use weir_tests::client::Client;
use weir_tests::need;
use weir_tests::world::{World, inside};

use crate::site::{PORT, Site};

#[test]
fn a_ban_drops_in_the_driver_and_harms_nobody_else() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let mode = site.weir.status()["kernel"]["mode"].clone();
    assert_eq!(mode, "driver");
    assert_eq!((site.get("client1"), site.get("client2")), (Some(200), Some(200)));
    assert_eq!(site.dropped(), 0);
    let address = World::address("client1");
    site.weir.ok(&["ban", "add", &address, "--reason", "crawler", "--ttl", "1h"]);
    assert_eq!((site.get("client1"), site.get("client2")), (None, Some(200)));
    assert!(site.dropped() > 0);
    let test = site.weir.ok(&["ban", "test", &address]);
    let expected =
        format!("{address}: drop (banned)\n  banned by {address}/32 of operator: crawler\n");
    assert!(test.starts_with(&expected) && test.contains("packets dropped so far: "), "{test}");
    site.weir.ok(&["allow", "add", "198.18.1.0/24"]);
    assert_eq!(site.get("client1"), Some(200), "the allow list stands above a ban");
    site.weir.ok(&["allow", "del", "198.18.1.0/24"]);
    assert_eq!(site.get("client1"), None);
    site.weir.ok(&["ban", "del", &address]);
    assert_eq!(site.get("client1"), Some(200));
}

#[test]
fn ipv6_is_served_and_banned() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let address: SocketAddr = format!("[fd00:1::1]:{PORT}").parse().unwrap();
    let get = || {
        inside(&site.world.host("client1"), || {
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
            Some(Client::connect(address).get("/").status)
        })
        .unwrap()
    };
    assert_eq!(get(), Some(200));
    site.weir.ok(&["ban", "add", &format!("{}/64", World::address6("client1"))]);
    assert_eq!(get(), None);
    site.weir.ok(&["ban", "del", "fd00:1::/64"]);
    assert_eq!(get(), Some(200));
}

#[test]
fn a_list_of_100_000_prefixes_is_loaded_and_replaced_whole() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let list = site.weir.file("list.txt");
    let lines: Vec<_> = (0..100_000u32)
        .map(|index| format!("{}/32", std::net::Ipv4Addr::from(0x0b00_0000 + index * 37)))
        .collect();
    std::fs::write(&list, format!("# a list\n{}\nnot a prefix\n", lines.join("\n"))).unwrap();
    let file = list.display().to_string();
    let told = site.weir.ok(&["ban", "load", &file]);
    assert!(told.starts_with("100000 added, 0 removed, 100000 banned now"), "{told}");
    assert!(told.contains("1 lines skipped:\n  line 100002: `not a prefix`"), "{told}");
    assert_eq!(site.weir.status()["kernel"]["bans"], 100_000);
    assert_eq!(site.get("client1"), Some(200));
    std::fs::write(&list, format!("{}\n", World::address("client1"))).unwrap();
    let told = site.weir.ok(&["ban", "load", &file, "--replace"]);
    assert!(told.starts_with("1 added, 100000 removed, 1 banned now"), "{told}");
    assert_eq!(site.get("client1"), None);
    let bad = site.weir.weir(&["ban", "add", "192.0.2.1", "0.0.0.0/0"]);
    assert_eq!(bad.status.code(), Some(1));
    assert_eq!(site.weir.status()["kernel"]["bans"], 1, "nothing was half done");
}

#[test]
fn the_lists_and_the_allow_list_of_the_configuration_follow_a_reload() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let bans = |site: &Site| site.weir.status()["kernel"]["bans"].as_u64().unwrap();
    let (one, two) = (site.weir.file("one.txt"), site.weir.file("two.txt"));
    std::fs::write(&one, format!("{}\n192.0.2.0/24\n", World::address("client1"))).unwrap();
    std::fs::write(&two, "192.0.2.0/24\n2001:db8::/32\n").unwrap();
    let with =
        |keys: String| Site::sections().replace("mode: driver", &format!("mode: driver, {keys}"));
    let files = |paths: &[&std::path::PathBuf]| {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        format!("bans: {{ files: [{}] }}", paths.join(", "))
    };
    site.weir.ok(&["allow", "add", "203.0.113.1"]);
    site.weir.write(&with(files(&[&one, &two])));
    site.weir.ok(&["reload"]);
    assert_eq!((bans(&site), site.get("client1")), (3, None));
    site.weir.write(&with(files(&[&one, &two]) + ", allow: [198.18.1.0/24]"));
    site.weir.ok(&["reload"]);
    assert_eq!(site.get("client1"), Some(200));
    site.weir.write(&with(files(&[&two])));
    site.weir.ok(&["reload"]);
    assert_eq!((bans(&site), site.get("client1")), (2, Some(200)));
    assert_eq!(site.weir.ok(&["allow", "list"]), "203.0.113.1/32\n", "allowed live, so it stays");
    site.weir.write(&with(files(&[&two, &std::path::PathBuf::from("/nonexistent.txt")])));
    let refused = site.weir.weir(&["reload"]);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(stderr.contains("read the ban list /nonexistent.txt"), "{stderr}");
    std::fs::write(&one, "10.0.0.0/8\n0.0.0.0/0\n").unwrap();
    site.weir.write(&with(files(&[&two, &one])));
    assert_eq!(site.weir.weir(&["reload"]).status.code(), Some(1));
    assert_eq!(bans(&site), 2, "nothing was half done");
}

#[test]
fn a_ban_ends_at_its_time() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    site.weir.ok(&["ban", "add", &World::address("client1"), "--ttl", "1s"]);
    let began = Instant::now();
    site.weir.wait_until("the ban has ended", |status| status["kernel"]["bans"] == 0);
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(site.get("client1"), Some(200));
}

#[test]
fn the_program_goes_with_the_process() {
    if !need::root() {
        return;
    }
    let mut site = Site::start();
    let attached = |site: &Site| {
        let mut command = World::command(&site.world.weir(), "ip");
        let output = command.args(["link", "show"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).matches("xdp").count()
    };
    assert!(attached(&site) >= 2);
    site.weir.signal(Signal::SIGTERM);
    assert!(site.weir.wait());
    assert_eq!(attached(&site), 0);
}

/// `wrk -c 64` for ten seconds; a reload and a killed backend in the middle are not noticed.
#[test]
fn ten_seconds_of_load_with_a_reload_and_a_killed_backend_have_no_error() {
    if !(need::root() && need::tool("wrk")) {
        return;
    }
    let mut site = Site::start();
    let url = format!("http://{}:{PORT}/", World::weir_address("client1"));
    let wrk = World::command(&site.world.host("client1"), "wrk")
        .args(["-t", "2", "-c", "64", "-d", "10s", &url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let served = |site: &Site, more: u64| {
        let before = site.weir.status()["requests"]["total"].as_u64().unwrap();
        site.weir.wait_until("requests are served", |status| {
            status["requests"]["total"].as_u64().unwrap() > before + more
        });
    };
    served(&site, 2_000);
    site.weir.signal(Signal::SIGHUP);
    served(&site, 2_000);
    site.backends[0].kill();
    served(&site, 2_000);
    let output = wrk.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
    assert_eq!(site.weir.status()["generation"], 2);
    let refused = site.weir.status()["requests"]["refused"].clone();
    assert_eq!(refused.as_array().unwrap().len(), 0, "{refused}");
}

#[test]
fn dropped_packets_are_sampled_to_the_log_at_debug_level() {
    if !need::root() {
        return;
    }
    let world = World::new().unwrap();
    let sections = Site::sections() + "log: debug\n";
    let weir = Balancer::start_in(Some(&world.weir()), &sections);
    let address = World::address("client1");
    weir.ok(&["ban", "add", &address]);
    let target: SocketAddr = format!("{}:9", World::weir_address("client1")).parse().unwrap();
    inside(&world.host("client1"), || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        // One in a thousand is logged, and the first.
        (0..10).for_each(|_| drop(socket.send_to(b"x", target)));
    })
    .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let line = format!("drop banned from {address}, 1 so far on this CPU");
    while !weir.log().contains(&line) {
        assert!(Instant::now() < deadline, "{}", weir.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}
