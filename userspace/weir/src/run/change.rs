//! Plan and apply: the one way in which the running state changes.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use weir_admin::api::Done;
use weir_balance::Upstream;
use weir_l4::Kernel;
use weir_l7::{Engine, Plan, Snapshot};
use weir_model::{Cidr, Config, KernelMode};

use super::{Main, config, lists};

/// Reads the configuration again and puts it in force, or says why not and changes nothing.
pub(crate) async fn reload(main: &mut Main) -> Result<Done, String> {
    let began = Instant::now();
    match try_reload(main).await {
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
    apply(main, config, planned).await
}

/// Everything that can be refused, done before anything is changed.
pub(crate) struct Planned {
    upstreams: Vec<Arc<Upstream>>,
    engine: Plan,
    lists: Vec<lists::List>,
}

/// Plans the change from `previous` upstreams to `config`.
pub(crate) fn plan(
    engine: &Engine,
    previous: &[Arc<Upstream>],
    config: &Config,
) -> Result<Planned> {
    let upstreams = weir_balance::build(&config.upstreams, previous);
    let snapshot = Snapshot::new(config, &upstreams).context("build the routes")?;
    let has_kernel = config.kernel.mode != KernelMode::Off;
    let lists = if has_kernel { lists::read(&config.kernel.bans)? } else { Vec::new() };
    Ok(Planned { engine: engine.plan(snapshot, &config.listeners)?, upstreams, lists })
}

/// Puts a plan in force.
pub(crate) async fn apply(main: &mut Main, config: Config, planned: Planned) -> Result<()> {
    let Planned { upstreams, engine, lists } = planned;
    let running = &main.running;
    if let Some(kernel) = &running.kernel {
        // The kernel may still refuse (room, memory): before the reactors change, which cannot fail.
        lists::check(kernel, &lists)?;
        allow(kernel, &main.config.kernel.allow, &config.kernel.allow)?;
        lists::apply(kernel, lists, &main.config.kernel.bans)?;
    }
    upstreams.iter().for_each(|upstream| upstream.activate());
    running.engine.apply(engine).await;
    main.watch = weir_health::watch(&upstreams);
    *running.upstreams.borrow_mut() = upstreams;
    running.generation.set(running.generation.get() + 1);
    main.config = config;
    Ok(())
}

/// Changes the allow list by what the configuration changed; what was allowed live stays.
fn allow(kernel: &Kernel, before: &[Cidr], after: &[Cidr]) -> Result<()> {
    let gone: Vec<_> = before.iter().copied().filter(|cidr| !after.contains(cidr)).collect();
    kernel.allow(after).context("allow what the configuration allows")?;
    kernel.disallow(&gone).context("take prefixes off the allow list")?;
    Ok(())
}

/// What is fixed for the life of a process.
fn warn_of_what_needs_a_restart(old: &Config, new: &Config) {
    let fixed = [
        ("kernel.interfaces", old.kernel.interfaces != new.kernel.interfaces),
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
