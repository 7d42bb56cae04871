//! The balancer under test: the real `weir` binary as a process.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::need;

/// How long a start, a stop or an expected state may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `weir`; killed when dropped.
#[derive(Debug)]
pub struct Balancer {
    folder: TempDir,
    child: Child,
    namespace: Option<String>,
}

impl Balancer {
    /// Starts `weir run` with these sections, its sockets in a folder of its own and the status
    /// port free; waits until it is ready. `listeners` with port 0 get a free one.
    ///
    /// # Panics
    /// It does not start; its log is in the message.
    #[must_use]
    pub fn start(sections: &str) -> Self {
        Self::start_in(None, sections)
    }

    /// The same, in a network namespace.
    ///
    /// # Panics
    /// As [`Balancer::start`].
    #[must_use]
    pub fn start_in(namespace: Option<&str>, sections: &str) -> Self {
        Self::try_start_in(namespace, sections).expect("start weir")
    }

    /// The same.
    ///
    /// # Errors
    /// It does not start; its log is in the message.
    pub fn try_start_in(namespace: Option<&str>, sections: &str) -> Result<Self> {
        Self::launch(command_in(namespace), namespace, sections)
    }

    /// Starts it as a service manager would that listens on this socket (sd_notify(3)).
    ///
    /// # Panics
    /// As [`Balancer::start`].
    #[must_use]
    pub fn start_notifying(socket: &Path, sections: &str) -> Self {
        let mut command = command_in(None);
        command.env("NOTIFY_SOCKET", socket);
        Self::launch(command, None, sections).expect("start weir")
    }

    fn launch(mut command: Command, namespace: Option<&str>, sections: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        write_config(folder.path(), sections);
        let log = std::fs::File::create(folder.path().join("log")).context("make a log file")?;
        let child = command
            .args(["run", "-c"])
            .arg(folder.path().join("weir.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start weir")?;
        let mut balancer = Self { folder, child, namespace: namespace.map(ToOwned::to_owned) };
        let deadline = Instant::now() + PATIENCE;
        while !balancer.log().contains(" ready; ") {
            if balancer.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("weir does not start: {}", balancer.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(balancer)
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `weir status --json`.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn status(&self) -> Value {
        let output = self.weir(&["status", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Where a listener is bound.
    ///
    /// # Panics
    /// There is no such listener.
    #[must_use]
    pub fn address(&self, listener: &str) -> SocketAddr {
        let status = self.status();
        let listeners = status["listeners"].as_array().expect("listeners");
        let found = listeners.iter().find(|known| known["name"] == listener).expect("the listener");
        found["address"].as_str().and_then(|text| text.parse().ok()).expect("an address")
    }

    /// Where the status port is bound.
    ///
    /// # Panics
    /// It is off.
    #[must_use]
    pub fn status_address(&self) -> SocketAddr {
        let status = self.status();
        status["status_address"].as_str().and_then(|text| text.parse().ok()).expect("an address")
    }

    /// Runs a command of the operator against this instance.
    ///
    /// # Panics
    /// The binary cannot be run.
    #[must_use]
    pub fn weir(&self, arguments: &[&str]) -> Output {
        let mut command = command_in(self.namespace.as_deref());
        command.args(arguments).env("WEIR_SOCKET", self.folder.path().join("admin.sock"));
        command.output().expect("run weir")
    }

    /// The same; what it printed.
    ///
    /// # Panics
    /// It failed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.weir(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "weir {arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until `holds` of the status.
    ///
    /// # Panics
    /// It does not in time.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if holds(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {status:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes other sections; they are read at the next reload.
    pub fn write(&self, sections: &str) {
        write_config(self.folder.path(), sections);
    }

    /// A file in the folder of this instance.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("send a signal");
    }

    /// Waits for its end; whether it was a success.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn wait(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child process") {
                return status.success();
            }
            assert!(Instant::now() < deadline, "weir does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Leaves it running, with its folder.
    pub fn keep(self) {
        // What is forgotten is not dropped, so nothing is killed and nothing removed.
        std::mem::forget(self);
    }

    /// The processes of this instance: one, or more while some answer what is open after an upgrade.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        let config = self.folder.path().join("weir.yaml");
        let config = config.as_os_str().as_encoded_bytes();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_own = |pid: &i32| {
            // Empty for one that has ended.
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&byte| byte == 0).any(|argument| argument == config)
        };
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_own).map(Pid::from_raw).collect()
    }

    /// Waits until one process is left of those of an upgrade.
    ///
    /// # Panics
    /// More are left, or none.
    pub fn wait_for_one_process(&self) -> Pid {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.processes()[..] {
                [pid] => return pid,
                ref pids => assert!(Instant::now() < deadline, "{pids:?}: {}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process, as it was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Those that took over from it are nobody's children.
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let mut log = String::new();
            let file = std::fs::File::open(self.folder.path().join("log"));
            let _ = file.and_then(|file| file.take(16 * 1024).read_to_string(&mut log));
            eprintln!("log of weir:\n{log}");
        }
    }
}

/// `weir`, where it is to run.
fn command_in(namespace: Option<&str>) -> Command {
    match namespace {
        None => Command::new(need::weir()),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(need::weir());
            command
        }
    }
}

fn write_config(folder: &Path, sections: &str) {
    let status =
        if sections.contains("status:") { "" } else { "status: { address: \"127.0.0.1:0\" }\n" };
    // The admin API is on the socket alone, unless a comment asks for an address.
    let address = sections.lines().find_map(|line| line.strip_prefix("# admin on "));
    let (address, socket) = (address.unwrap_or("off"), folder.join("admin.sock"));
    let state = if sections.contains("state:") {
        String::new()
    } else {
        format!("state: \"{}\"\n", folder.join("state").display())
    };
    let text = format!(
        "{sections}\n{state}admin: {{ address: \"{address}\", socket: \"{}\" }}\n{status}",
        socket.display()
    );
    // Whole or not at all: a reload may read at any time.
    let next = folder.join("weir.yaml.next");
    std::fs::write(&next, text).expect("write the configuration");
    std::fs::rename(next, folder.join("weir.yaml")).expect("place the configuration");
}

/// Sections with one listener `web` and one upstream of these backends behind every path.
#[must_use]
pub fn simple(backends: &[SocketAddr]) -> String {
    with(backends, "", "")
}

/// The same, with more keys of the listener and of the service, each like `, limits: { … }`.
#[must_use]
pub fn with(backends: &[SocketAddr], listener: &str, service: &str) -> String {
    let targets: Vec<_> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\"{listener} }}]\n\
         routes: [{{ name: all, service: s }}]\n\
         services: [{{ name: s, upstream: u{service} }}]\n\
         upstreams: [{{ name: u, targets: [{}] }}]\n",
        targets.join(", ")
    )
}
