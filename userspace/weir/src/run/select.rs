//! Reactors are selected in the kernel, where it has a side: it is told which sockets there are, and how
//! many connections each reactor has.

use weir_l4::{Group, Selector};
use weir_l7::Engine;

use super::Main;

/// Follows the sockets of the plan in force.
pub(crate) fn follow(main: &mut Main) {
    let engine = &main.running.engine;
    if main.running.kernel.kernel().is_none() {
        // A process before this one may have had a kernel side.
        weir_l4::unselect(&groups(engine));
        main.selector = Selector::default();
    } else if let Err(error) = main.selector.follow(groups(engine), &engine.cores()) {
        tracing::warn!("connections are spread over the reactors by hash alone: {error}");
    }
    main.running.selects.set(main.selector.is_used());
}

/// Tells how many connections are open; many times a second.
pub(crate) fn tell(main: &Main) {
    if main.selector.is_used() {
        main.selector.tell(&main.running.engine.open());
    }
}

/// Selects anew in groups where a process that failed may have left its own program.
pub(crate) fn renew(main: &mut Main) {
    main.selector = Selector::default();
    follow(main);
}

fn groups(engine: &Engine) -> Vec<Group> {
    engine.sockets().into_iter().map(|group| (group.configured, group.sockets)).collect()
}
