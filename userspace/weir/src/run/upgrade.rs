//! `weir upgrade`: the binary is started anew, and everything left to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::task::spawn_blocking;
use weir_admin::api::Done;
use weir_l4::Kernel;
use weir_net::Handover;

use super::handover::{FAILED, GO, PATIENCE, PLANNED, READY, Sockets, VARIABLE};
use super::{Main, change, notify, select, start_kernel};

/// How long who uses the kernel side (a list that is being loaded) may take to let go of it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a successor that has failed may take to end by itself.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Starts a successor and waits until it serves; or says why it does not, and goes on as before.
pub(crate) async fn upgrade(main: &mut Main, binary: Option<PathBuf>) -> Result<Done, String> {
    notify::reloading();
    let began = Instant::now();
    match try_upgrade(main, binary).await {
        Ok(pid) => {
            notify::main_pid(pid);
            let took = began.elapsed().as_secs_f64() * 1e3;
            let patience = main.config.drain_timeout.as_secs_f64();
            let own = std::process::id();
            let message = format!(
                "process {pid} serves after {took:.1} ms; process {own} answers what is open, \
                 for at most {patience} s"
            );
            tracing::info!("upgraded: {message}");
            Ok(Done { generation: main.running.generation.get(), message })
        }
        Err(error) => {
            notify::ready();
            tracing::error!("upgrade refused: {error:#}");
            Err(format!("{error:#}"))
        }
    }
}

async fn try_upgrade(main: &mut Main, binary: Option<PathBuf>) -> Result<u32> {
    let binary = binary.map_or_else(own_binary, Ok)?;
    let sockets = main.serving.sockets(main.running.engine.sockets())?;
    let successor = spawn_blocking(move || Successor::start(&binary, &sockets));
    let successor = successor.await.context("start the successor")??;
    let had_kernel = match release_kernel(main).await {
        Ok(had_kernel) => had_kernel,
        Err(error) => {
            let _ = spawn_blocking(move || successor.end()).await;
            return Err(error);
        }
    };
    let ready = spawn_blocking(move || successor.take_over()).await;
    match ready.context("wait for the successor")? {
        Ok(pid) => Ok(pid),
        Err(error) => {
            if had_kernel {
                retake_kernel(main)
                    .await
                    .context(format!("{error:#}\nand the kernel side could not be taken back"))?;
            }
            Err(error)
        }
    }
}

/// The file that this process was started from, which may be another one by now.
fn own_binary() -> Result<PathBuf> {
    const DELETED: &str = " (deleted)";
    let path = std::env::current_exe().context("find the binary")?;
    let text = path.to_str().and_then(|path| path.strip_suffix(DELETED)).map(PathBuf::from);
    Ok(text.unwrap_or(path))
}

/// Leaves what is pinned to whoever takes it; whether there was anything.
async fn release_kernel(main: &mut Main) -> Result<bool> {
    // Probes that take a VIP's way look at the kernel's counters.
    main.watch = weir_health::Watch::default();
    let Some(mut held) = main.running.kernel.replace(None) else { return Ok(false) };
    let began = Instant::now();
    loop {
        match Arc::try_unwrap(held) {
            Ok(kernel) => {
                drop(kernel);
                return Ok(true);
            }
            Err(shared) if began.elapsed() < RELEASE_TIMEOUT => held = shared,
            Err(shared) => {
                main.running.kernel.replace(Some(shared));
                change::probe(main)?;
                bail!("somebody changes bans; try again");
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// As a start does after another process.
async fn retake_kernel(main: &mut Main) -> Result<()> {
    let kernel: Option<Kernel> = start_kernel(&main.config)?;
    main.running.kernel.replace(kernel.map(Arc::new));
    let config = main.config.clone();
    let planned = change::plan(&main.running.engine, &main.running.upstreams.borrow(), &config)?;
    super::put_in_force(main, config, planned).await?;
    select::renew(main)
}

/// The process that is to succeed this one.
struct Successor {
    child: Child,
    channel: Handover,
}

impl Successor {
    /// Starts it; ends once it has done everything that does not touch the kernel.
    fn start(binary: &Path, sockets: &Sockets) -> Result<Self> {
        let (channel, other) = Handover::pair().context("make a channel")?;
        channel.set_patience(PATIENCE).context("make a channel")?;
        let child = Command::new(binary)
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(other))
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        tracing::info!("upgrade: started {} as process {}", binary.display(), child.id());
        let successor = Self { child, channel };
        // One that is gone already is found out by waiting for its word.
        let _ = sockets.send(&successor.channel);
        successor.until(PLANNED)
    }

    /// Tells it that the kernel side is free; ends once it serves. Its process.
    fn take_over(self) -> Result<u32> {
        let _ = self.channel.send(GO, &[]);
        Ok(self.until(READY)?.child.id())
    }

    fn until(self, word: &str) -> Result<Self> {
        let problem = match self.channel.receive() {
            Ok(Some(parcel)) if parcel.text == word => return Ok(self),
            Ok(Some(parcel)) => match parcel.text.strip_prefix(FAILED) {
                Some(why) => anyhow!("the new process: {why}"),
                None => anyhow!("the new process says `{}` instead of `{word}`", parcel.text),
            },
            Ok(None) => {
                let ended = self.end();
                bail!("the new process has ended before it served ({ended}); see its log");
            }
            Err(error) => {
                let seconds = PATIENCE.as_secs();
                let _ = self.kill();
                bail!("the new process does not serve within {seconds} s ({error})");
            }
        };
        self.end();
        Err(problem)
    }

    /// Waits for its end, which it is forced to after a while; how it ended.
    fn end(mut self) -> String {
        let began = Instant::now();
        // It waits for no word that will not come.
        drop(self.channel);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) if began.elapsed() < END_TIMEOUT => std::thread::sleep(LOOK_INTERVAL),
                _ => break,
            }
        }
        let _ = self.child.kill();
        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}
