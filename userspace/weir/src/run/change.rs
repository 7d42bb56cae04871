//! Plan and apply: the one way in which the running state changes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use weir_admin::api::Done;
use weir_balance::Upstream;
use weir_health::Detour;
use weir_l4::{Configured, Kernel, List};
use weir_l7::{Engine, Plan, Snapshot};
use weir_model::{BanFile, Cidr, Config, KernelMode};

use super::certificates::Certificates;
use super::vips::Detours;
use super::{Main, config, files::Watched, lists, notify, select, vips};

/// Reads the configuration again and puts it in force, or says why not and changes nothing.
pub(crate) async fn reload(main: &mut Main) -> Result<Done, String> {
    let began = Instant::now();
    notify::reloading();
    let reloaded = try_reload(main).await;
    notify::ready();
    match reloaded {
        Ok(()) => {
            let generation = main.running.generation.get();
            let took = began.elapsed().as_secs_f64() * 1e3;
            let message = format!("generation {generation} in force after {took:.1} ms");
            tracing::info!("reloaded: {message}");
            Ok(Done { generation, message })
        }
        Err(error) => {
            tracing::error!("reload refused: {error:#}");
            Err(format!("{error:#}"))
        }
    }
}

async fn try_reload(main: &mut Main) -> Result<()> {
    let mut config = config::read(&main.path)?;
    if let Some(mode) = main.kernel_mode {
        config.kernel.mode = mode;
    }
    warn_of_what_needs_a_restart(&main.config, &config);
    let running = &main.running;
    let planned = plan(&running.engine, &running.upstreams.borrow(), &config)?;
    apply(main, config, planned).await?;
    // The rest is in force already, so this is no refusal.
    if let Err(error) = select::follow(main) {
        tracing::error!("{error:#}; what listeners have in `also` is served as before");
    }
    Ok(())
}

/// Everything that can be refused, done before anything is changed.
pub(crate) struct Planned {
    upstreams: Vec<Arc<Upstream>>,
    engine: Plan,
    lists: Vec<(String, List)>,
    lists_watched: Watched,
    certificates: Certificates,
}

/// Plans the change from `previous` upstreams to `config`.
pub(crate) fn plan(
    engine: &Engine,
    previous: &[Arc<Upstream>],
    config: &Config,
) -> Result<Planned> {
    select::check(config)?;
    let upstreams = weir_balance::build(&config.upstreams, config.zone.as_deref(), previous);
    let has_kernel = config.kernel.mode != KernelMode::Off;
    let files = if has_kernel { &config.kernel.bans.files[..] } else { &[] };
    // Before the files are read: one that changes meanwhile is read again.
    let lists_watched = Watched::now(files.iter().map(|file| file.path.clone()));
    let certificates = Certificates::now(config);
    let lists = lists::read(files)?;
    let snapshot = Snapshot::new(config, &upstreams, engine.tickets())?;
    let engine = engine.plan(snapshot, &config.listeners)?;
    Ok(Planned { upstreams, engine, lists, lists_watched, certificates })
}

/// Puts a plan in force, but for what of connections the kernel selects; where that is refused nothing of
/// it is.
pub(crate) async fn apply(main: &mut Main, config: Config, planned: Planned) -> Result<()> {
    let Planned { upstreams, engine, lists, lists_watched, certificates } = planned;
    let running = &main.running;
    let kernel = running.kernel.kernel();
    if let Some(kernel) = &kernel {
        // The kernel may still refuse (room, memory): before the reactors change, which cannot fail.
        let configured = Configured { lists, ..configured(&main.config, &config) };
        configure(kernel, configured).await.context("put the bans in force")?;
        vips::take_over_health(kernel, &upstreams);
        vips::balance(kernel, &config, &upstreams).await.context("put the VIPs in force")?;
    }
    // Before anything is served: it may be refused.
    let detours = vips::detours(kernel.as_ref(), &config, &upstreams)?;
    upstreams.iter().for_each(|upstream| upstream.activate());
    running.engine.apply(engine).await;
    *running.upstreams.borrow_mut() = upstreams;
    running.generation.set(running.generation.get() + 1);
    main.config = config;
    main.ban_files = lists_watched;
    main.certificates = certificates;
    probe_by(main, &detours);
    Ok(())
}

/// Has the backends in force probed.
pub(crate) fn probe(main: &mut Main) -> Result<()> {
    let kernel = main.running.kernel.kernel();
    let detours = vips::detours(kernel.as_ref(), &main.config, &main.running.upstreams.borrow())?;
    probe_by(main, &detours);
    Ok(())
}

fn probe_by(main: &mut Main, detours: &Detours) {
    let kernel = main.running.kernel.kernel();
    let upstreams = main.running.upstreams.borrow();
    main.watch = weir_health::watch(&upstreams, |upstream, backend| {
        let mark = *detours.get(&(upstream.name().to_owned(), backend.address()))?;
        let kernel = Arc::clone(kernel.as_ref()?);
        Some(Detour { mark, taken: Box::new(move || kernel.probe_packets(mark)) })
    });
}

/// Reads lists that have changed since and puts them in force; where that fails the ones in force stay.
pub(crate) async fn follow_lists(main: &mut Main) {
    let Some(kernel) = main.running.kernel.kernel() else { return };
    for path in main.ban_files.changed() {
        let Some(file) = main.config.kernel.bans.files.iter().find(|file| file.path == path) else {
            continue;
        };
        let read = lists::read_one(file);
        let done = match read {
            Ok(list) => {
                let lists = vec![(lists::name(&file.path), list)];
                let same = configured(&main.config, &main.config);
                configure(&kernel, Configured { lists, ..same }).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::error!("ban list {} stays as it was: {error:#}", file.path.display());
        }
    }
}

/// On a thread of its own: a table of millions takes a while.
async fn configure(kernel: &Arc<Kernel>, configured: Configured) -> Result<()> {
    let kernel = Arc::clone(kernel);
    let done = tokio::task::spawn_blocking(move || kernel.configure(configured)).await;
    lists::tell(&done.context("build the tables")??);
    Ok(())
}

/// What changes from one configuration to another, but for the lists; what was allowed live stays.
fn configured(before: &Config, after: &Config) -> Configured {
    let (old, new) = (&before.kernel, &after.kernel);
    let is_gone = |file: &&BanFile| new.bans.files.iter().all(|kept| kept.path != file.path);
    let gone = old.bans.files.iter().filter(is_gone).map(|file| lists::name(&file.path));
    let disallow = old.allow.iter().copied().filter(|cidr| !new.allow.contains(cidr));
    Configured {
        lists: Vec::new(),
        gone: gone.collect(),
        allow: new.allow.clone(),
        disallow: disallow.collect(),
        protect: protected(after),
        dry_run: new.bans.dry_run,
    }
}

/// Sources that are not banned by accident.
fn protected(config: &Config) -> Vec<(Cidr, &'static str)> {
    let loopback = [(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)];
    let loopback = loopback.into_iter().filter_map(|(address, length)| Cidr::new(address, length));
    let targets = config.upstreams.iter().flat_map(|upstream| &upstream.targets);
    let backends = targets.map(|target| (Cidr::host(target.address.ip()), "it is a backend"));
    loopback.map(|cidr| (cidr, "it is this host itself")).chain(backends).collect()
}

/// What is fixed for the life of a process.
fn warn_of_what_needs_a_restart(old: &Config, new: &Config) {
    let fixed = [
        ("kernel.interfaces", old.kernel.interfaces != new.kernel.interfaces),
        ("kernel.pin", old.kernel.pin != new.kernel.pin),
        ("state", old.state != new.state),
        ("kernel.flows", old.kernel.flows != new.kernel.flows),
        ("kernel.mode", old.kernel.mode != new.kernel.mode),
        ("kernel.bans.capacity", old.kernel.bans.capacity != new.kernel.bans.capacity),
        ("admin", old.admin != new.admin),
        ("status", old.status != new.status),
        ("reactors", old.reactors != new.reactors),
        ("log", old.log != new.log),
    ];
    for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("`{key}` has changed; that takes effect at the next start");
    }
}
