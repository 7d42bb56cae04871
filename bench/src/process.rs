//! Processes that are pinned to a core, and what they used.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Clock ticks a second in `/proc`: fixed by the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of a server's last words is told.
const LAST_WORDS_MAX: usize = 600;

/// A server on a core; ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: String,
    /// What it wrote to standard error.
    words: PathBuf,
    pub(crate) port: u16,
}

/// What to start, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    pub(crate) name: &'a str,
    pub(crate) core: usize,
    pub(crate) words: &'a [String],
    /// Where it is going to listen.
    pub(crate) port: u16,
    /// Keeps its standard error.
    pub(crate) folder: &'a Path,
}

impl Server {
    /// Starts a command on a core and waits until it listens.
    pub(crate) fn start(Start { name, core, words, port, folder }: Start<'_>) -> Result<Self> {
        let log = folder.join(format!("{name}.stderr"));
        let stderr = std::fs::File::create(&log).context("keep what a server says")?;
        // Whoever ends the benchmark ends its servers.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "taskset", "-c", &core.to_string()]).args(words);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = quiet.spawn().with_context(|| format!("start {name}"))?;
        let mut server = Self { child, name: name.to_owned(), words: log, port };
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

    /// CPU-seconds of its whole process tree, user and system.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let ticks = self.pids().into_iter().map(ticks).sum::<Result<u64>>();
        let ticks = ticks.with_context(|| format!("read the time of {}", self.name))?;
        #[expect(clippy::cast_precision_loss, reason = "ticks of a benchmark are few")]
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// Bytes of its whole process tree; what is shared counts once.
    pub(crate) fn memory(&self) -> Result<f64> {
        let sizes = self.pids().into_iter().map(proportional_set_size).sum::<Result<f64>>();
        sizes.with_context(|| format!("read the memory of {}", self.name))
    }

    /// Its process, their children, and so on.
    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = pids.get(next).copied() {
            pids.extend(children(pid));
            next += 1;
        }
        pids
    }

    /// The end of what it wrote to standard error.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.words).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let skipped = text.chars().count().saturating_sub(LAST_WORDS_MAX);
        match text.chars().skip(skipped).collect::<String>() {
            empty if empty.is_empty() => "it said nothing".to_owned(),
            text => text,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // TERM first: a master process must end its workers.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Started by any thread of a process.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|it| std::fs::read_to_string(it.path().join("children")).ok());
    let pids = texts.map(|text| text.split_whitespace().flat_map(str::parse).collect::<Vec<_>>());
    pids.flatten().collect()
}

/// Clock ticks of a process with all its threads.
fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let field = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Ok(field(11).context("utime")? + field(12).context("stime")?)
}

fn proportional_set_size(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("Pss")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("Pss")?;
    Ok(kilobytes * 1024.0)
}

/// CPU-seconds that the whole machine was not idle.
pub(crate) fn machine_cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("cpu")?;
    let fields: Vec<f64> = line.split_whitespace().flat_map(str::parse).collect();
    // user, nice, system, idle, iowait, irq, softirq; what other guests stole is not ours.
    let busy = [0, 1, 2, 5, 6].into_iter().filter_map(|index| fields.get(index));
    Ok(busy.sum::<f64>() / TICKS_PER_SECOND)
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.port())
}
