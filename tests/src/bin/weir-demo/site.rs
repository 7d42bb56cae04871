//! The hosts of the demo with what runs on them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use weir_tests::balancer::Balancer;
use weir_tests::need;
use weir_tests::world::{Process, World};

/// What the demo's namespaces are called: `weir-demo-…`.
pub(crate) const NAME: &str = "demo";
/// Where clients reach Weir.
pub(crate) const PORT: u16 = 8000;
/// Where Weir reaches backends.
const BACKEND_PORT: u16 = 9000;
/// The backends' hosts.
pub(crate) const BACKENDS: [&str; 2] = ["backend1", "backend2"];

/// Two clients, Weir, two backends.
pub(crate) struct Site {
    pub(crate) weir: Balancer,
    backends: Vec<Process>,
    pub(crate) world: World,
}

impl Site {
    pub(crate) fn start() -> Result<Self> {
        let world = World::named(NAME)?;
        let backends = BACKENDS.iter().map(|host| start_backend(&world, host));
        let backends = backends.collect::<Result<Vec<_>>>()?;
        let weir = Balancer::try_start_in(Some(&world.weir()), &sections())?;
        Ok(Self { weir, backends, world })
    }

    /// Where a client reaches Weir.
    pub(crate) fn address(client: &str) -> Result<SocketAddr> {
        let address = format!("{}:{PORT}", World::weir_address(client));
        address.parse().context("an address of the demo")
    }

    /// SIGKILL: no goodbye.
    pub(crate) fn kill_backend(&mut self, index: usize) {
        if let Some(backend) = self.backends.get_mut(index) {
            backend.kill();
        }
    }

    pub(crate) fn restart_backend(&mut self, index: usize) -> Result<()> {
        let started = start_backend(&self.world, BACKENDS[index])?;
        self.backends[index] = started;
        Ok(())
    }

    /// Waits until a backend is `up` or `down` in Weir's eyes.
    pub(crate) fn wait_for_health(&self, index: usize, health: &str) {
        self.weir.wait_until(&format!("{} is {health}", BACKENDS[index]), |status| {
            status["upstreams"][0]["backends"][index]["health"] == health
        });
    }

    /// Packets that the driver dropped because their source is banned.
    pub(crate) fn dropped(&self) -> u64 {
        let status = self.weir.status();
        let verdicts = status["kernel"]["verdicts"].as_array().map_or(&[][..], Vec::as_slice);
        let banned = verdicts.iter().find(|verdict| verdict["reason"] == "banned");
        banned.and_then(|banned| banned["packets"].as_u64()).unwrap_or(0)
    }

    /// Interfaces with the program, and where it runs.
    pub(crate) fn modes(&self) -> String {
        let status = self.weir.status();
        let interfaces = status["kernel"]["interfaces"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let shown = interfaces
            .iter()
            .map(|on| format!("{} ({} mode)", text(&on["name"]), text(&on["mode"])));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Leaves everything up, and tells what to try.
    pub(crate) fn keep(self) {
        let (weir, socket) = (need::weir().display(), self.weir.file("admin.sock"));
        let (client, balancer) = (self.world.host("client1"), self.world.weir());
        let (socket, address) = (socket.display(), World::weir_address("client1"));
        println!(
            "Everything is still up. Try:\n\
             \x20 export WEIR_SOCKET={socket}\n\
             \x20 {weir} status\n\
             \x20 ip netns exec {client} curl -i http://{address}:{PORT}/headers\n\
             \x20 {weir} ban add {} --ttl 1m --reason 'too curious'\n\
             \x20 {weir} ban test {}\n\
             \x20 ip netns exec {balancer} ip link show client1     # the program, in the driver\n\
             \x20 {weir} reload        # after a change of {}\n\
             Remove it all with:\n\
             \x20 cargo xtask demo --down",
            World::address("client1"),
            World::address("client1"),
            self.weir.file("weir.yaml").display(),
        );
        self.weir.keep();
        self.world.keep();
        self.backends.into_iter().for_each(std::mem::forget);
    }
}

fn start_backend(world: &World, host: &str) -> Result<Process> {
    let own = std::env::current_exe().context("find this program")?;
    let listen = format!("{}:{BACKEND_PORT}", World::address(host));
    let mut command = World::command(&world.host(host), own);
    let backend = Process::start(command.args(["backend", "--listen", &listen, "--name", host]))?;
    wait_until_listening(world, host)?;
    Ok(backend)
}

/// A backend that is starting refuses connections for a moment.
fn wait_until_listening(world: &World, host: &str) -> Result<()> {
    let address: SocketAddr = format!("{}:{BACKEND_PORT}", World::address(host)).parse()?;
    weir_tests::world::inside(&world.host(host), || {
        for _ in 0..500 {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(anyhow::anyhow!("{host} does not listen on {address}"))
    })?
}

fn sections() -> String {
    let targets = BACKENDS.map(|host| format!("\"{}:{BACKEND_PORT}\"", World::address(host)));
    format!(
        "kernel:\n\
         \x20 interfaces: [client1, client2]\n\
         listeners:\n\
         \x20 - {{ name: web, address: 0.0.0.0:{PORT} }}\n\
         routes:\n\
         \x20 - {{ name: all, service: site }}\n\
         services:\n\
         \x20 - {{ name: site, upstream: site }}\n\
         upstreams:\n\
         \x20 - name: site\n\
         \x20   targets: [{}]\n\
         \x20   health: {{ active: {{ path: /health, interval: 200ms }} }}\n",
        targets.join(", ")
    )
}
