//! Hosts for tests: network namespaces joined by veth pairs, gone when dropped.
//!
//! ```text
//! client1 ─┐                ┌─ backend1
//!          ├─ (weir) ───────┤
//! client2 ─┘                └─ backend2
//! ```
//! Each line is a veth pair with a /24 of its own; the balancer's ends are named after the other.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The hosts around the balancer, with the third byte of their network.
const HOSTS: [(&str, u8); 5] =
    [("client1", 1), ("client2", 2), ("backend1", 11), ("backend2", 12), ("backend3", 13)];

/// Namespaces of this project begin so; the number behind it is the process that made them.
const PREFIX: &str = "weir-";

/// A balancer's host with two clients and two backends around it.
#[derive(Debug)]
pub struct World {
    name: String,
    keep: bool,
}

impl World {
    /// Makes the namespaces. What killed processes left behind is removed first.
    ///
    /// # Errors
    /// Not root, or no `ip` command.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("{}-{count}", std::process::id()))
    }

    /// Makes the namespaces `weir-NAME-…`; they are not taken for what a killed process left.
    ///
    /// # Errors
    /// As [`World::new`], or they exist.
    pub fn named(name: &str) -> Result<Self> {
        let world = Self { name: format!("{PREFIX}{name}"), keep: false };
        world.build().context("make the network namespaces")?;
        Ok(world)
    }

    /// Ends every process in the namespaces `weir-NAME-…` and removes them; whether there were any.
    #[must_use]
    pub fn remove(name: &str) -> bool {
        let prefix = format!("{PREFIX}{name}-");
        let names: Vec<_> =
            namespaces().into_iter().filter(|name| name.starts_with(&prefix)).collect();
        for name in &names {
            let pids = Command::new("ip").args(["netns", "pids", name]).output();
            let pids = pids.map(|output| output.stdout).unwrap_or_default();
            for pid in String::from_utf8_lossy(&pids).split_whitespace() {
                let pid = pid.parse().map(Pid::from_raw);
                let _ = pid.map(|pid| kill(pid, Signal::SIGKILL));
            }
        }
        remove(&prefix);
        !names.is_empty()
    }

    fn build(&self) -> Result<()> {
        let weir = self.weir();
        add_namespace(&weir)?;
        for (host, network) in HOSTS {
            let namespace = self.host(host);
            add_namespace(&namespace)?;
            let pair = ["link", "add", host, "netns", &weir, "type", "veth"];
            ip(&[&pair[..], &["peer", "name", "eth0", "netns", &namespace]].concat())?;
            for (namespace, device, last) in [(&weir, host, 1), (&namespace, "eth0", 2)] {
                let address = format!("198.18.{network}.{last}/24");
                ip(&["-n", namespace, "address", "add", &address, "dev", device])?;
                let address = format!("fd00:{network}::{last}/64");
                ip(&["-n", namespace, "address", "add", &address, "dev", device, "nodad"])?;
                ip(&["-n", namespace, "link", "set", device, "up"])?;
            }
        }
        Ok(())
    }

    /// Makes the balancer's host a router between the others, and has every host send what XDP can
    /// forward: with checksums of its own, since no card would add them.
    ///
    /// # Errors
    /// No `ethtool` command.
    pub fn route(&self) -> Result<()> {
        let weir = self.weir();
        for (host, network) in HOSTS {
            let namespace = self.host(host);
            for (namespace, device) in [(&weir, host), (&namespace, "eth0")] {
                run(Self::command(namespace, "ethtool")
                    .args(["-K", device, "tx", "off", "gro", "on"]))?;
            }
            let gateway = format!("198.18.{network}.1");
            ip(&["-n", &namespace, "route", "add", "default", "via", &gateway])?;
            let gateway = format!("fd00:{network}::1");
            ip(&["-n", &namespace, "-6", "route", "add", "default", "via", &gateway])?;
        }
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            sysctl(&weir, key, "1")?;
        }
        Ok(())
    }

    /// The balancer's namespace.
    #[must_use]
    pub fn weir(&self) -> String {
        self.host("lb")
    }

    /// The namespace of a host: `client1`, `client2`, `backend1` to `backend3`.
    #[must_use]
    pub fn host(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// A host's own IPv4 address.
    #[must_use]
    pub fn address(host: &str) -> String {
        format!("198.18.{}.2", network(host))
    }

    /// A host's own IPv6 address.
    #[must_use]
    pub fn address6(host: &str) -> String {
        format!("fd00:{}::2", network(host))
    }

    /// The balancer's address as a host sees it.
    #[must_use]
    pub fn weir_address(host: &str) -> String {
        format!("198.18.{}.1", network(host))
    }

    /// Leaves the namespaces in place.
    pub fn keep(mut self) {
        self.keep = true;
    }

    /// A command in a namespace.
    #[must_use]
    pub fn command(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.keep {
            remove(&format!("{}-", self.name));
        }
    }
}

/// A host with one interface and neighbours that need not be asked for: what the packet path finds routes
/// in when it runs on packets of a test.
///
/// ```text
/// d0 02:00:00:00:00:aa  10.9.1.1/16, fd09::ffff/64
/// 10.9.0.N, fd09::N (N from 1 to 99) at 02:00:00:00:01:N
/// 10.10.0.0/16, 192.0.2.0/24, 2001:db8::/32 by 10.9.0.99, fd09::63
/// ```
#[derive(Debug)]
pub struct Bench {
    name: String,
}

impl Bench {
    /// Makes the namespace.
    ///
    /// # Errors
    /// Not root, or no `ip` command.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let bench = Self { name: format!("{PREFIX}{}-bench{count}", std::process::id()) };
        add_namespace(&bench.name)?;
        let mut commands = vec![
            "link add d0 address 02:00:00:00:00:aa type veth peer name d1".to_owned(),
            "link set d0 up".to_owned(),
            "link set d1 up".to_owned(),
            "address add 10.9.1.1/16 dev d0".to_owned(),
            "address add fd09::ffff/64 dev d0 nodad".to_owned(),
            "route add 10.10.0.0/16 via 10.9.0.99".to_owned(),
            "route add 192.0.2.0/24 via 10.9.0.99".to_owned(),
            "route add 2001:db8::/32 via fd09::63".to_owned(),
        ];
        for n in 1..=99 {
            let mac = format!("lladdr 02:00:00:00:01:{n:02x} dev d0");
            commands.push(format!("neigh add 10.9.0.{n} {mac}"));
            commands.push(format!("neigh add fd09::{n:x} {mac}"));
        }
        batch(&bench.name, &commands.join("\n"))?;
        sysctl(&bench.name, "net.ipv4.conf.lo.forwarding", "1")?;
        sysctl(&bench.name, "net.ipv6.conf.lo.forwarding", "1")?;
        Ok(bench)
    }

    /// The namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// Many `ip` commands by one process.
fn batch(namespace: &str, commands: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), commands)?;
    run(Command::new("ip").args(["-n", namespace, "-batch"]).arg(file.path()))
}

/// Runs `work` on a thread inside a namespace: its sockets belong there.
///
/// # Errors
/// The namespace cannot be entered.
///
/// # Panics
/// `work` panicked.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(format!("/run/netns/{namespace}")).context("open the namespace")?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A child process that is killed when dropped.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Starts a command without input and output.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(quiet.spawn().with_context(|| format!("start {command:?}"))?))
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Removes the namespaces of processes that live no more.
pub fn remove_leftovers() {
    for name in namespaces() {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let pid = pid.and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
        if pid.is_some_and(|pid| kill(pid, None).is_err()) {
            remove(&name);
        }
    }
}

/// The names of all network namespaces that `ip` knows.
#[must_use]
pub fn namespaces() -> Vec<String> {
    let Ok(folder) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn remove(prefix: &str) {
    for name in namespaces().iter().filter(|name| name.starts_with(prefix)) {
        let _ = ip(&["netns", "delete", name]);
    }
}

fn network(host: &str) -> u8 {
    HOSTS.iter().find(|(name, _)| *name == host).map_or(0, |(_, network)| *network)
}

fn add_namespace(name: &str) -> Result<()> {
    ip(&["netns", "add", name])?;
    ip(&["-n", name, "link", "set", "lo", "up"])
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn sysctl(namespace: &str, key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    inside(namespace, || std::fs::write(&path, value).with_context(|| format!("write {path}")))?
}
