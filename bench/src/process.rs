//! Processes that are pinned to a core, and what CPU they used.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Clock ticks a second in `/proc`: fixed by the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a core; ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: String,
    pub(crate) port: u16,
}

impl Server {
    /// Starts a command on a core and waits until it listens.
    pub(crate) fn start(name: &str, core: usize, words: &[String], port: u16) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).args(words);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = quiet.spawn().with_context(|| format!("start {name}"))?;
        let mut server = Self { child, name: name.to_owned(), port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(server.address()).is_err() {
            if server.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("{name} does not listen: {}", server.last_words());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// CPU-seconds of it and its children, user and system.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.with_context(|| format!("find the processes of {}", self.name))?;
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        let ticks = [own].into_iter().chain(pids).map(ticks).collect::<Result<Vec<_>>>();
        let ticks: u64 =
            ticks.with_context(|| format!("read the time of {}", self.name))?.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "ticks of a benchmark are few")]
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    fn last_words(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
        }
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // TERM first: a master process must end its workers.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Clock ticks of a process with all its threads.
fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let field = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Ok(field(11).context("utime")? + field(12).context("stime")?)
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.port())
}
