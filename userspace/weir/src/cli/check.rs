//! `weir check`: every mistake of a configuration.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::run::config;

pub(crate) fn check(path: &Path) -> Result<ExitCode> {
    let config = config::read(path)?;
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
