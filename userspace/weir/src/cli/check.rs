//! `weir check`: every mistake of a configuration.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::run::config;

pub(crate) fn check(path: &Path) -> Result<ExitCode> {
    let config = config::read(path)?;
    println!(
        "{} is valid: {} listeners, {} routes, {} services, {} upstreams",
        path.display(),
        config.listeners.len(),
        config.routes.len(),
        config.services.len(),
        config.upstreams.len()
    );
    Ok(ExitCode::SUCCESS)
}
