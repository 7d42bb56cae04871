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
