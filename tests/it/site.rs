//! Two backends, Weir in front of them with XDP in driver mode, and two clients: each a host.

use std::net::SocketAddr;
use std::time::Duration;

use weir_tests::balancer::Balancer;
use weir_tests::client::Client;
use weir_tests::world::{Process, World, inside};

pub(crate) const PORT: u16 = 8000;

/// Two backends, Weir between them and two clients.
pub(crate) struct Site {
    pub(crate) weir: Balancer,
    pub(crate) backends: Vec<Process>,
    pub(crate) world: World,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::start_with(&Self::sections())
    }

    /// The same, with other sections.
    pub(crate) fn start_with(sections: &str) -> Self {
        let world = World::new().unwrap();
        let backends = ["backend1", "backend2"].map(|host| {
            let mut command = World::command(&world.host(host), env!("CARGO_BIN_EXE_weir-demo"));
            Process::start(command.args(["backend", "--listen", "[::]:9000", "--name", host]))
                .unwrap()
        });
        let weir = Balancer::start_in(Some(&world.weir()), sections);
        let site = Self { weir, backends: backends.into(), world };
        site.weir.wait_until("both backends are up", |status| {
            let backends = status["upstreams"][0]["backends"].as_array().unwrap();
            backends.iter().all(|backend| backend["health"] == "up")
        });
        site
    }

    pub(crate) fn sections() -> String {
        let target = |host| format!("\"{}:9000\"", World::address(host));
        format!(
            "kernel: {{ interfaces: [client1, client2], mode: driver }}\n\
             listeners: [{{ name: web, address: \"[::]:{PORT}\" }}]\n\
             routes: [{{ name: all, service: s }}]\n\
             services: [{{ name: s, upstream: u }}]\n\
             upstreams: [{{ name: u, targets: [{}, {}], health: {{ active: {{ interval: 100ms, path: /health }} }} }}]\n",
            target("backend1"),
            target("backend2"),
        )
    }

    /// The status of a GET from a host; `None` if nobody answers within a second.
    pub(crate) fn get(&self, host: &str) -> Option<u16> {
        let address: SocketAddr = format!("{}:{PORT}", World::weir_address(host)).parse().unwrap();
        inside(&self.world.host(host), || {
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
            Some(Client::connect(address).get("/").status)
        })
        .unwrap()
    }

    pub(crate) fn dropped(&self) -> u64 {
        let status = self.weir.status();
        let verdicts = status["kernel"]["verdicts"].as_array().unwrap();
        let banned = verdicts.iter().find(|verdict| verdict["reason"] == "banned").unwrap();
        banned["packets"].as_u64().unwrap()
    }

    /// Sections with more keys of `kernel`, like `allow: [10.0.0.0/8]`.
    pub(crate) fn with(keys: &str) -> String {
        Self::sections().replace("mode: driver", &format!("mode: driver, {keys}"))
    }

    /// Sends datagrams from a host to nobody's port: what a flood is to the driver.
    pub(crate) fn send(&self, host: &str, count: usize) {
        let target = format!("{}:9", World::weir_address(host));
        inside(&self.world.host(host), || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            // The port's owner may say that there is nobody.
            (0..count).for_each(|_| drop(socket.send_to(b"x", &target)));
        })
        .unwrap();
    }
}
