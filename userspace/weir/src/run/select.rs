//! Sockets are selected in the kernel, where it has a side: it is told which there are, how many connections
//! each reactor has, and what listeners serve besides the addresses that they are bound to.

use anyhow::{Result, bail};
use weir_l4::{Group, Lookup, Selector};
use weir_l7::Engine;
use weir_model::{Config, KernelMode};

use super::Main;

/// Follows the sockets of the plan in force.
///
/// # Errors
/// The kernel does not let listeners serve addresses that they are not bound to.
pub(crate) fn follow(main: &mut Main) -> Result<()> {
    let engine = &main.running.engine;
    if main.running.kernel.kernel().is_none() {
        // A process before this one may have had a kernel side.
        weir_l4::unselect(&groups(engine));
        main.selector = Selector::default();
    } else if let Err(error) = main.selector.follow(groups(engine), &engine.cores()) {
        tracing::warn!("connections are spread over the reactors by hash alone: {error}");
    }
    main.running.selects.set(main.selector.is_used());
    let groups = groups(engine);
    let listeners = main.config.listeners.iter();
    let served: Vec<_> = listeners
        .flat_map(|listener| {
            let group = groups.iter().find(|(address, _)| *address == listener.address);
            listener.also.iter().filter_map(move |also| Some((*also, group?.clone())))
        })
        .collect();
    // The one before is dropped only once this one is attached.
    main.lookup = if served.is_empty() { None } else { Some(Lookup::attach(served)?) };
    Ok(())
}

/// Refuses what only the kernel side can do, where it is off.
pub(crate) fn check(config: &Config) -> Result<()> {
    let also = config.listeners.iter().find(|listener| !listener.also.is_empty());
    match also {
        Some(listener) if config.kernel.mode == KernelMode::Off => bail!(
            "listener {}: `also` needs the kernel side, which is off\n\
             give `kernel.interfaces`, or bind a listener to each address",
            listener.name
        ),
        _ => Ok(()),
    }
}

/// Tells how many connections are open; many times a second.
pub(crate) fn tell(main: &Main) {
    if main.selector.is_used() {
        main.selector.tell(&main.running.engine.open());
    }
}

/// Selects anew in groups where a process that failed may have left its own program.
pub(crate) fn renew(main: &mut Main) -> Result<()> {
    main.selector = Selector::default();
    follow(main)
}

fn groups(engine: &Engine) -> Vec<Group> {
    engine.sockets().into_iter().map(|group| (group.configured, group.sockets)).collect()
}
