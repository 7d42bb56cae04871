//! VIPs follow the configuration and the health of their backends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weir_admin::api::Done;
use weir_balance::{Health, Upstream, health_changes};
use weir_l4::{Kernel, Pool, PoolMember, VipProbe, Wanted};
use weir_model::Config;

use super::Main;

/// Between two looks at slots that are moving.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

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
    let Some(kernel) = main.running.kernel.kernel() else { return };
    if main.config.vips.is_empty() {
        return;
    }
    let now = Instant::now();
    if now.saturating_duration_since(main.vips_ticked) >= TICK_INTERVAL {
        main.vips_ticked = now;
        let kernel = Arc::clone(&kernel);
        // Not on this thread: many tables take a while.
        let _ = tokio::task::spawn_blocking(move || kernel.tick_vips(now)).await;
    }
    // Read before the healths are: a change meanwhile is seen next time.
    let seen = health_changes();
    if seen == main.health_seen && !kernel.is_under_way() {
        return;
    }
    main.health_seen = seen;
    let upstreams = main.running.upstreams.borrow().clone();
    if let Err(error) = balance(&kernel, &main.config, &upstreams).await {
        tracing::error!("the VIPs stay as they were: {error:#}");
    }
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

/// The marks of probes that go by way of a VIP, by upstream and target.
pub(crate) type Detours = HashMap<(String, SocketAddr), u32>;

/// What probes that go by way of a VIP are marked with from now on.
pub(crate) fn detours(
    kernel: Option<&Arc<Kernel>>,
    config: &Config,
    upstreams: &[Arc<Upstream>],
) -> Result<Detours> {
    let (mut keys, mut wanted) = (Vec::new(), Vec::new());
    for upstream in upstreams {
        let name = upstream.policy().health.as_ref().and_then(|check| check.vip.as_ref());
        let Some(vip) = config.vips.iter().find(|vip| Some(&vip.name) == name) else { continue };
        for target in &upstream.policy().targets {
            keys.push((upstream.name().to_owned(), target.address));
            wanted.push(VipProbe { vip: vip.clone(), backend: target.address });
        }
    }
    let Some(kernel) = kernel else {
        if !wanted.is_empty() {
            tracing::warn!("without the kernel side probes go to the targets' own addresses");
        }
        return Ok(HashMap::new());
    };
    let marks = kernel.probe_vips(&wanted, &config.kernel)?;
    Ok(keys.into_iter().zip(marks).collect())
}

/// Has a VIP served by listeners of this host, or forwarded again; says what happens to flows.
pub(crate) async fn move_to(main: &mut Main, name: &str, is_local: bool) -> Result<Done, String> {
    let Some(kernel) = main.running.kernel.kernel() else {
        return Err("the kernel side is off: there are no VIPs".to_owned());
    };
    if !kernel.set_local(name, is_local) {
        let known: Vec<_> = main.config.vips.iter().map(|vip| vip.name.as_str()).collect();
        return Err(format!("no VIP `{name}`; known: {}", known.join(", ")));
    }
    let upstreams = main.running.upstreams.borrow().clone();
    let done = balance(&kernel, &main.config, &upstreams).await;
    done.map_err(|error| format!("{error:#}"))?;
    let to = if is_local { "listeners of this host" } else { "its backends" };
    let message = format!("new flows of {name} go to {to}; flows that exist stay where they are");
    tracing::info!("{message}");
    Ok(Done { generation: main.running.generation.get(), message })
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
        listeners: config.listeners.iter().map(|it| (it.name.clone(), it.address)).collect(),
        tunnel: config.kernel.tunnel.clone(),
        guard: config.kernel.guard.clone(),
    }
}
