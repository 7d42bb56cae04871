//! Which reactor gets a connection: that of the CPU which received it, and all alike.

use std::net::{SocketAddr, TcpStream};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;
use weir_tests::need;
use weir_tests::world::{World, inside};

use crate::site::{PORT, Site};

/// Connections of a client on that CPU, which the same CPU receives: the hosts are on one machine.
fn connect(site: &Site, cpu: usize, count: usize) -> Vec<TcpStream> {
    let address: SocketAddr = format!("{}:{PORT}", World::weir_address("client1")).parse().unwrap();
    inside(&site.world.host("client1"), || {
        let mut set = CpuSet::new();
        set.set(cpu).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
        (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
    })
    .unwrap()
}

fn open(weir: &Balancer) -> Vec<u64> {
    let status = weir.status();
    let open = status["reactor_connections"].as_array().unwrap();
    open.iter().map(|open| open.as_u64().unwrap()).collect()
}

fn wait_for(site: &Site, count: u64) -> Vec<u64> {
    site.weir.wait_until("all are open", |status| {
        let open = status["reactor_connections"].as_array().unwrap();
        open.iter().map(|open| open.as_u64().unwrap()).sum::<u64>() == count
    });
    open(&site.weir)
}

#[test]
fn connections_go_to_the_reactor_of_their_cpu_until_it_has_more_than_its_share() {
    if !need::root() || std::thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    let site = Site::start_with(&format!("reactors: 2\n{}", Site::sections()));
    assert_eq!(site.weir.status()["selection"], "cpu");
    for upgrades in 0..2 {
        if upgrades > 0 {
            site.weir.ok(&["upgrade"]);
        }
        let mut held = connect(&site, 0, 12);
        assert_eq!(wait_for(&site, 12), [12, 0], "the CPU's own");
        held.extend(connect(&site, 1, 12));
        assert_eq!(wait_for(&site, 24), [12, 12]);
        drop(held);
        wait_for(&site, 0);
        // One CPU receives everything: the other reactor gets its part.
        let held = connect(&site, 0, 400);
        let open = wait_for(&site, 400);
        assert!(open.iter().all(|&open| open > 150), "{open:?}");
        let status = site.weir.status_address();
        let metrics = inside(&site.world.weir(), || Client::connect(status).get("/metrics").text());
        let metrics = metrics.unwrap();
        assert!(metrics.contains("weir_reactor_connections{reactor=\"1\"} "), "{metrics}");
        let spread = metrics.lines().find_map(|it| it.strip_prefix("weir_reactor_spread_ratio "));
        let spread: f64 = spread.unwrap().parse().unwrap();
        assert!((1.0..1.25).contains(&spread), "{spread}");
        drop(held);
        wait_for(&site, 0);
    }
    // A listener that comes with a reload is selected for, too, and one without the kernel side is not.
    site.weir.write(
        &Site::sections()
            .replace("listeners: [", "listeners: [{ name: more, address: \"[::]:8001\" }, "),
    );
    site.weir.ok(&["reload"]);
    assert_eq!(site.get("client1"), Some(200));
}

#[test]
fn without_the_kernel_side_connections_go_by_hash() {
    let backend = Backend::start("a");
    let weir = Balancer::start(&format!("reactors: 2\n{}", balancer::simple(&[backend.address])));
    assert_eq!(weir.status()["selection"], "hash");
    assert!(weir.ok(&["status"]).contains("2 reactors by hash"));
    let mut client = Client::connect(weir.address("web"));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(open(&weir).iter().sum::<u64>(), 1);
}

/// Whether a connection to each of these is served, and what the backend is told of its port.
fn forwarded_port(site: &Site, address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    inside(&site.world.weir(), || {
        TcpStream::connect(address).ok()?;
        let head = Client::connect(address).get("/headers").text();
        let line = head.lines().find_map(|line| line.strip_prefix("x-forwarded-port: "));
        line.map(ToOwned::to_owned)
    })
    .unwrap()
}

#[test]
fn a_listener_serves_addresses_and_ports_that_it_is_not_bound_to() {
    if !need::root() {
        return;
    }
    let also = "also: [\"203.0.113.0/24:8000-8999\", \"[2001:db8::]/64:443\"]";
    let sections = Site::sections().replace("name: web,", &format!("name: web, {also},"));
    let more =
        "listeners: [{ name: more, address: \"127.0.0.9:7000\", also: [\"203.0.113.7:8100\"] }, ";
    let mut site = Site::start_with(&sections.replace("listeners: [", more));
    for route in ["203.0.113.0/24", "2001:db8::/64"] {
        let mut command = std::process::Command::new("ip");
        let command = command.args(["-n", &site.world.weir(), "route", "add", "local", route]);
        assert!(command.args(["dev", "lo"]).status().unwrap().success());
    }
    for upgrades in 0..2 {
        if upgrades > 0 {
            site.weir.ok(&["upgrade"]);
        }
        // A thousand of them, each once.
        let served = inside(&site.world.weir(), || {
            let mut open = Vec::new();
            for host in 0..100 {
                for port in 0..10 {
                    let address: SocketAddr =
                        format!("203.0.113.{}:{}", host + 20, 8000 + host * 10 + port)
                            .parse()
                            .unwrap();
                    open.push(TcpStream::connect(address).unwrap());
                }
            }
            let last = open.last().unwrap().peer_addr().unwrap();
            (open.len(), Client::connect(last).get("/").status)
        });
        assert_eq!(served.unwrap(), (1000, 200));
        for (address, port) in [
            ("203.0.113.1:8000", Some("8000")),
            ("203.0.113.255:8999", Some("8999")),
            ("[2001:db8::1234]:443", Some("443")),
            ("203.0.113.1:7999", None),
            ("203.0.113.1:9000", None),
            ("[2001:db8::1234]:444", None),
            // The narrower one is another listener's.
            ("203.0.113.7:8100", Some("8100")),
            ("127.0.0.9:7000", Some("7000")),
        ] {
            assert_eq!(forwarded_port(&site, address).as_deref(), port, "{address}");
        }
    }
    site.weir.write(&Site::sections());
    site.weir.ok(&["reload"]);
    assert_eq!(forwarded_port(&site, "203.0.113.1:8001"), None);
    assert_eq!(forwarded_port(&site, "203.0.113.1:8000").as_deref(), Some("8000"), "it is bound");
    site.weir.ok(&["stop", "--detach"]);
    site.weir.wait();
}

#[test]
fn without_the_kernel_side_other_addresses_are_refused() {
    let backend = Backend::start("a");
    let keys = ", also: [\"203.0.113.0/24:80\"]";
    let refused =
        Balancer::try_start_in(None, &balancer::with(&[backend.address], keys, "")).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("listener web: `also` needs the kernel side, which is off"),
        "{refused}"
    );
}
