//! VIPs follow the configuration and the health of their backends.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use weir_balance::{Health, Upstream};
use weir_l4::{Kernel, Pool, PoolMember, Wanted};
use weir_model::Config;

use super::Main;

/// What the VIPs in force were made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    moves: u64,
    healths: Vec<Health>,
}

/// Puts VIPs in force with their backends as they are now.
pub(crate) async fn balance(
    kernel: &Arc<Kernel>,
    config: &Config,
    upstreams: &[Arc<Upstream>],
) -> Result<()> {
    let (kernel, wanted) = (Arc::clone(kernel), wanted(config, upstreams));
    let done = tokio::task::spawn_blocking(move || kernel.balance(&wanted, Instant::now())).await;
    Ok(done.context("balance the VIPs")??)
}

/// The same for those in force, if anything has changed since.
pub(crate) async fn follow(main: &mut Main) {
    let Some(kernel) = main.running.kernel.clone() else { return };
    if main.config.vips.is_empty() {
        return;
    }
    let now = Instant::now();
    kernel.tick_vips(now);
    let upstreams = main.running.upstreams.borrow().clone();
    let seen = Seen {
        moves: main.running.vip_moves.get(),
        healths: healths(&main.config, &upstreams),
    };
    if seen == main.vips_seen && !kernel.is_under_way(now) {
        return;
    }
    if let Err(error) = balance(&kernel, &main.config, &upstreams).await {
        tracing::error!("the VIPs stay as they were: {error:#}");
    }
    main.vips_seen = seen;
}

/// What is known of backends in the kernel's maps, which another process may have left: those that were
/// down stay so until a probe says otherwise.
pub(crate) fn take_over_health(kernel: &Kernel, upstreams: &[Arc<Upstream>]) {
    for address in kernel.known_down() {
        for upstream in upstreams.iter().filter(|upstream| upstream.policy().health.is_some()) {
            let known = upstream.backends().iter().find(|backend| backend.address() == address);
            known.iter().for_each(|backend| backend.set_health(Health::Down));
        }
    }
}

fn healths(config: &Config, upstreams: &[Arc<Upstream>]) -> Vec<Health> {
    let used = config.vips.iter().map(|vip| vip.upstream).collect::<std::collections::BTreeSet<_>>();
    let used = used.into_iter().filter_map(|index| upstreams.get(index));
    used.flat_map(|upstream| upstream.backends()).map(|backend| backend.health()).collect()
}

fn wanted(config: &Config, upstreams: &[Arc<Upstream>]) -> Wanted {
    let pool = |upstream: &Arc<Upstream>| Pool {
        name: upstream.name().to_owned(),
        slow_start: upstream.policy().slow_start,
        members: upstream
            .backends()
            .iter()
            .zip(&upstream.policy().targets)
            .map(|(backend, target)| PoolMember {
                address: backend.address(),
                weight: target.weight.value(),
                is_up: backend.health() != Health::Down,
                server_id: target.server_id,
            })
            .collect(),
    };
    Wanted {
        vips: config.vips.clone(),
        pools: upstreams.iter().map(pool).collect(),
        listeners: config.listeners.iter().map(|listener| listener.address).collect(),
        tunnel: config.kernel.tunnel.clone(),
    }
}
