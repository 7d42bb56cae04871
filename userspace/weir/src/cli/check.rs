//! `weir check`: every mistake of a configuration.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use weir_l7::Snapshot;
use weir_net::Tickets;

use crate::run::config;

pub(crate) fn check(path: &Path) -> Result<ExitCode> {
    let config = config::read(path)?;
    // What only a start would find out: certificates and keys that cannot be used.
    let upstreams = weir_balance::build(&config.upstreams, config.zone.as_deref(), &[]);
    Snapshot::new(&config, &upstreams, &Tickets::new()?)?;
    let counts = [
        ("VIP", config.vips.len()),
        ("listener", config.listeners.len()),
        ("route", config.routes.len()),
        ("service", config.services.len()),
        ("upstream", config.upstreams.len()),
    ];
    let counts = counts.map(|(noun, n)| format!("{n} {noun}{}", if n == 1 { "" } else { "s" }));
    println!("{} is valid: {}", path.display(), counts.join(", "));
    Ok(ExitCode::SUCCESS)
}
