//! `weir run`: start everything, serve until told to stop, change only by plan and apply.

pub(crate) mod config;

mod admin;
mod certificates;
mod change;
mod files;
mod guard;
mod handover;
mod lists;
mod notify;
mod select;
mod signals;
mod upgrade;
mod vips;

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::time::timeout;
use weir_admin::{Asking, Order, Running, Watch};
use weir_l4::{Holder, Kernel, Lookup, Selector};
use weir_l7::{Engine, Outlet};
use weir_model::{Config, KernelMode, LogLevel};
use weir_relay::{Pair, Relay, RelayHandle};

use crate::cli::Run;
use handover::{Predecessor, Sockets};
use signals::{Signal, Signals};

/// Of `drain-timeout`, how much idle connections have for a last request: this part of it.
const IDLE_PART: u32 = 2;
/// How long connections to the admin side may take to end once they are told to.
const ASKING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a start that failed takes for connections that it has accepted already.
const FAILED_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Orders that may wait for the main loop.
const ORDERS_MAX: usize = 16;
/// Between two looks at bans whose time has come.
const TICK_INTERVAL: Duration = Duration::from_millis(250);
/// Between two looks whether the health of a VIP's backend has changed.
const BALANCE_INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks at the rates of SYNs.
const GUARD_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at the files of ban lists.
const FILES_INTERVAL: Duration = Duration::from_millis(500);

/// Runs until a signal or an order ends it.
pub(crate) fn run(arguments: &Run) -> Result<ExitCode> {
    let predecessor = Predecessor::find()?;
    let ended = run_after(arguments, predecessor.as_ref());
    if let (Err(error), Some(predecessor)) = (&ended, &predecessor) {
        predecessor.failed(error);
    }
    ended
}

fn run_after(arguments: &Run, predecessor: Option<&Predecessor>) -> Result<ExitCode> {
    let mut config = config::read(&arguments.file.path)?;
    if let Some(mode) = arguments.kernel {
        config.kernel.mode = mode.into();
    }
    log_to_stderr(config.log);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("start an event loop")?;
    runtime.block_on(serve(arguments, config, predecessor))?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that can be refused is tried before anything is said to run. The network card comes
/// last: attaching may make its driver restart its queues.
async fn serve(arguments: &Run, config: Config, predecessor: Option<&Predecessor>) -> Result<()> {
    let signals = Signals::listen()?;
    let mut inherited = predecessor.map_or_else(|| Ok(Sockets::default()), Predecessor::sockets)?;
    let admin = admin::bind(&config, &mut inherited).await?;
    let (bans, bans_wanted) = weir_l7::Bans::channel();
    let reactors = reactors(&config);
    let relay = Relay::start(reactors.get()).context("start the relay")?;
    let engine =
        Engine::start(reactors, bans, &outlet(relay.handle())).context("start the reactors")?;
    engine.inherit(std::mem::take(&mut inherited.listeners));
    let planned = change::plan(&engine, &[], &config)?;
    predecessor.map_or(Ok(()), Predecessor::planned)?;
    let kernel = Holder::default();
    if let Some(started) = start_kernel(&config)? {
        kernel.replace(Some(Arc::new(started)));
        drop(weir_l4::enforce(kernel.clone(), bans_wanted));
    }
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let running = Rc::new(Running {
        engine,
        kernel,
        watch: Watch::default(),
        upstreams: RefCell::default(),
        generation: Cell::new(0),
        draining: Cell::new(false),
        status_address: Cell::new(admin.status_address()),
        selects: Cell::new(false),
        predecessor: Cell::new(predecessor.map(|predecessor| predecessor.pid)),
        started: Instant::now(),
        orders,
        asking: Asking::default(),
    });
    let mut main = Main {
        running: Rc::clone(&running),
        path: arguments.file.path.clone(),
        kernel_mode: arguments.kernel.map(KernelMode::from),
        config: config.clone(),
        detach: false,
        serving: admin::Serving::default(),
        selector: Selector::default(),
        lookup: None,
        watch: weir_health::Watch::default(),
        ban_files: files::Watched::default(),
        certificates: certificates::Certificates::default(),
        health_seen: 0,
        vips_ticked: Instant::now(),
    };
    if let Err(error) = put_in_force(&mut main, config, planned).await {
        main.running.kernel.replace(None).iter().for_each(|kernel| kernel.abandon());
        // Sockets that were inherited have brought connections already.
        let _ = timeout(FAILED_DRAIN_TIMEOUT, main.running.engine.drain(Duration::ZERO)).await;
        return Err(error);
    }
    main.serving = admin.serve(&running)?;
    announce(&main);
    if let Some(predecessor) = predecessor {
        take_over(predecessor, inherited);
    }
    notify::ready();
    main.until_stopped(signals, ordered).await;
    if let Some(kernel) = main.running.kernel.replace(None) {
        if kernel.is_pinned() && !main.detach {
            tracing::info!("bans and VIPs stay in force; `weir stop --detach` takes them down");
        } else {
            kernel.detach();
        }
    }
    Ok(())
}

/// Everything is served here now. One that lives no more needs not be told.
fn take_over(predecessor: &Predecessor, inherited: Sockets) {
    match predecessor.ready() {
        Ok(()) => tracing::info!("took over from process {}", predecessor.pid),
        Err(error) => tracing::warn!("{error:#}"),
    }
    if let Some((path, _)) = inherited.unix {
        // The admin socket is another one in this configuration.
        let _ = std::fs::remove_file(path);
    }
}

/// What the main loop holds.
struct Main {
    running: Rc<Running>,
    path: PathBuf,
    /// From the command line; stands above the configuration.
    kernel_mode: Option<KernelMode>,
    /// In force.
    config: Config,
    /// Whether the kernel side goes with the process, pinned or not.
    detach: bool,
    /// The admin side's sockets.
    serving: admin::Serving,
    /// Which reactors get connections.
    selector: Selector,
    /// Which listener serves an address that none is bound to.
    lookup: Option<Lookup>,
    /// The probes of the configuration in force.
    watch: weir_health::Watch,
    /// The ban lists of the configuration in force, as they were read.
    ban_files: files::Watched,
    /// The certificates of the configuration in force, as they were read.
    certificates: certificates::Certificates,
    /// How often healths had changed when the VIPs were last balanced.
    health_seen: u64,
    /// When time was last told to the VIPs.
    vips_ticked: Instant,
}

impl Main {
    async fn until_stopped(&mut self, mut signals: Signals, mut orders: mpsc::Receiver<Order>) {
        let mut ticks = tokio::time::interval(TICK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = tokio::time::interval(FILES_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut guards = tokio::time::interval(GUARD_INTERVAL);
        guards.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut balances = tokio::time::interval(BALANCE_INTERVAL);
        balances.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Reload => drop(change::reload(self).await),
                    Signal::Upgrade => if upgrade::upgrade(self, None).await.is_ok() {
                        return self.leave(&mut signals).await;
                    },
                    Signal::Stop(how) => return self.stop(how, &mut signals).await,
                },
                Some(order) = orders.recv() => match order {
                    Order::Reload { done } => drop(done.send(change::reload(self).await)),
                    Order::Upgrade { binary, done } => {
                        let upgraded = upgrade::upgrade(self, binary).await;
                        let is_done = upgraded.is_ok();
                        drop(done.send(upgraded));
                        if is_done {
                            return self.leave(&mut signals).await;
                        }
                    }
                    Order::MoveVip { name, is_local, done } => {
                        drop(done.send(vips::move_to(self, &name, is_local).await));
                    }
                    Order::Stop { graceful, detach } => {
                        self.detach |= detach;
                        let how = if graceful { Stop::Graceful } else { Stop::Fast };
                        return self.stop(how, &mut signals).await;
                    }
                },
                _ = ticks.tick() => self.tick().await,
                _ = guards.tick() => guard::follow(self).await,
                _ = balances.tick() => {
                    select::tell(self);
                    vips::follow(self).await;
                }
                _ = looks.tick() => {
                    change::follow_lists(self).await;
                    certificates::follow(self).await;
                }
            }
        }
    }

    /// Waits for open requests, unless a second signal or the configuration's patience ends it.
    async fn stop(&mut self, how: Stop, signals: &mut Signals) {
        notify::stopping();
        self.running.draining.set(true);
        match how {
            Stop::Fast => return tracing::info!("stopping at once"),
            Stop::Graceful => self.drain(Some(self.config.drain_timeout), signals).await,
            Stop::GracefulWithoutLimit => self.drain(None, signals).await,
        }
        let _ = timeout(ASKING_TIMEOUT, self.running.asking.end()).await;
    }

    /// Answers what is open: another process has the sockets and the kernel side.
    async fn leave(&mut self, signals: &mut Signals) {
        self.running.draining.set(true);
        self.serving.leave();
        self.lookup = None;
        let running = Rc::clone(&self.running);
        let asking = timeout(ASKING_TIMEOUT, running.asking.end());
        let drain = self.drain(Some(self.config.drain_timeout), signals);
        let _ = tokio::join!(asking, drain);
    }

    async fn drain(&self, patience: Option<Duration>, signals: &mut Signals) {
        tracing::info!("stopping once open requests are answered");
        let drained = self.running.engine.drain(self.config.drain_timeout / IDLE_PART);
        let drained = async {
            match patience {
                Some(patience) => timeout(patience, drained).await.is_ok(),
                None => {
                    drained.await;
                    true
                }
            }
        };
        tokio::select! {
            in_time = drained => match in_time {
                true => tracing::info!("stopped; every open request was answered"),
                false => tracing::warn!("drain-timeout is over; cutting what is still open"),
            },
            () = signals.stop_now() => tracing::warn!("told again; cutting what is still open"),
        }
    }

    /// Not on this thread: it may wait for a table that is being built.
    async fn tick(&self) {
        let predecessor = self.running.predecessor.take();
        self.running.predecessor.set(predecessor.filter(|&pid| handover::is_parent(pid)));
        let Some(kernel) = self.running.kernel.kernel() else { return };
        let ticked = tokio::task::spawn_blocking(move || kernel.tick(SystemTime::now())).await;
        match ticked {
            Ok(Ok(ended)) if ended.is_empty() => {}
            Ok(Ok(ended)) => tracing::info!("bans whose time has come: {}", ended.len()),
            Ok(Err(error)) => tracing::warn!("end bans whose time has come: {error}"),
            Err(error) => tracing::error!("end bans whose time has come: {error}"),
        }
    }
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Open requests are answered, within `drain-timeout`.
    Graceful,
    /// Open requests are answered, however long it takes.
    GracefulWithoutLimit,
    /// At once.
    Fast,
}

/// What is only bytes leaves the reactors for the relay's threads.
fn outlet(relay: RelayHandle) -> Outlet {
    Outlet::new(move |pair| {
        let weir_l7::Pair { client, backend, to_backend, to_client, idle, on_end } = pair;
        let on_end = Box::new(|_| on_end());
        relay.relay(Pair { client, backend, to_backend, to_client, idle, on_end });
    })
}

fn start_kernel(config: &Config) -> Result<Option<Kernel>> {
    if config.kernel.mode == KernelMode::Off {
        let why = if cfg!(feature = "kernel") { "" } else { " (this build has none)" };
        tracing::info!("kernel side off{why}: nothing is dropped before it reaches a socket");
        if !config.vips.is_empty() {
            tracing::warn!("the {} VIPs of the configuration are not served", config.vips.len());
        }
        return Ok(None);
    }
    Ok(Some(Kernel::load(&config.kernel, config.state.as_deref(), config.log)?))
}

/// The card is attached once everything is in force that a packet may meet.
async fn put_in_force(main: &mut Main, config: Config, planned: change::Planned) -> Result<()> {
    change::apply(main, config, planned).await?;
    select::follow(main)?;
    let Some(kernel) = main.running.kernel.kernel() else { return Ok(()) };
    kernel.attach(&main.config.kernel)?;
    for interface in kernel.interfaces() {
        tracing::info!("XDP attached to {} in {} mode", interface.name, interface.mode.name());
    }
    Ok(())
}

fn reactors(config: &Config) -> NonZeroUsize {
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    config.reactors.unwrap_or_else(cores)
}

fn announce(main: &Main) {
    for listener in main.running.engine.listeners() {
        tracing::info!("listener {} on {}", listener.name, listener.address);
    }
    if let Some(address) = main.running.status_address.get() {
        tracing::info!("status on http://{address}/metrics");
    }
    tracing::info!("ready; admin socket {}", main.config.admin.socket.display());
}

fn log_to_stderr(level: LogLevel) {
    use tracing::level_filters::LevelFilter;
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .with_target(false)
        .with_max_level(level)
        .init();
}
