//! The flood guard follows rates; what it finds is told, and banned where that is wanted.

use std::time::{Instant, SystemTime};

use weir_l4::{GuardChange, Kernel};
use weir_model::{Ban, BanOrigin, GuardBan};

use super::Main;

/// The name of the rule that bans.
const RULE: &str = "guard";

/// Looks at rates; a few times a second.
pub(crate) async fn follow(main: &Main) {
    let Some(kernel) = main.running.kernel.kernel() else { return };
    let wanted = main.config.kernel.guard.ban;
    // Not on this thread: it may wait for a table of bans that is being built.
    let looked = tokio::task::spawn_blocking(move || {
        let changes = kernel.tick_guard(Instant::now(), SystemTime::now());
        wanted.iter().for_each(|wanted| ban(&kernel, wanted));
        changes
    });
    match looked.await {
        Ok(changes) => changes.iter().for_each(tell),
        Err(error) => tracing::error!("guard: {error}"),
    }
}

fn tell(change: &GuardChange) {
    let GuardChange { name, address, from, to, syn_rate } = change;
    let (first, more) = address.split_once(',').unwrap_or((address, ""));
    let more = if more.is_empty() { "" } else { ", …" };
    let line = format!("guard: {name} ({first}{more}): {from} to {to}, {syn_rate:.0} SYNs/s");
    if *to == "attack" {
        tracing::warn!("{line}");
    } else {
        tracing::info!("{line}");
    }
}

/// Sources that stay over a limit.
fn ban(kernel: &Kernel, wanted: &GuardBan) {
    for cidr in kernel.guard_offenders() {
        let now = SystemTime::now();
        let ban = Ban {
            reason: format!("over a limit for {} s", wanted.after.as_secs()),
            expires: Some(now + wanted.ttl),
            ..Ban::new(cidr, BanOrigin::Rule(RULE.to_owned()), now)
        };
        match kernel.ban(&[ban]) {
            Ok(_) => tracing::warn!("guard: {cidr} is banned for {} s", wanted.ttl.as_secs()),
            Err(error) => tracing::warn!("guard: ban {cidr}: {error}"),
        }
    }
}
