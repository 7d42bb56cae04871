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
        let world = World::new().unwrap();
        world.route().unwrap();
        let (mut decapsulators, mut echoes) = (Vec::new(), Vec::new());
        for name in BACKENDS {
            let namespace = world.host(name);
            let mut command = World::command(&namespace, need::weir());
            command.args(["backend", VIP, VIP6, "--interface", "eth0", "--mode", "driver"]);
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
    if !(need::root() && need::tool("ethtool")) {
        return;
    }
    let vips = Vips::start(&sections(forward, ""));
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
