//! The configuration's file.

use std::path::Path;

use anyhow::{Context, Result, bail};
use weir_config::ProcessEnvironment;
use weir_model::Config;

/// Reads and validates.
///
/// # Errors
/// It cannot be read, or every mistake in it, a line each: `file:line:column: what`.
pub(crate) fn read(path: &Path) -> Result<Config> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("read the configuration {shown}"))?;
    match weir_config::parse(&text, &ProcessEnvironment) {
        Ok(config) => Ok(config),
        Err(mistakes) => {
            let lines: Vec<_> =
                mistakes.iter().map(|mistake| format!("{shown}:{mistake}")).collect();
            let count = match lines.len() {
                1 => "1 mistake".to_owned(),
                count => format!("{count} mistakes"),
            };
            bail!("{count} in the configuration; nothing was changed\n{}", lines.join("\n"))
        }
    }
}
