//! Targets: how each proxy is configured and started.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::scenario::files;

/// A proxy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// The file's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// What starts it in the foreground.
    command: Vec<String>,
    /// What prints its version.
    version: Vec<String>,
    /// What its configuration is called.
    file: String,
    config: String,
}

/// Where a target's parts are.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Path,
    /// Where it listens.
    pub(crate) port: u16,
    /// Where the origin listens.
    pub(crate) origin: u16,
}

/// Every target, by name.
pub(crate) fn all() -> Result<Vec<Target>> {
    let read = |(name, text): (String, String)| {
        let target: Target =
            toml::from_str(&text).with_context(|| format!("read the target {name}"))?;
        Ok(Target { name, ..target })
    };
    files("targets")?.into_iter().map(read).collect()
}

impl Target {
    /// Writes its configuration; answers what starts it.
    pub(crate) fn prepare(&self, place: &Place<'_>) -> Result<Vec<String>> {
        let config = place.folder.join(&self.file);
        let text = fill(&self.config, Some(place), None);
        std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        Ok(self.command.iter().map(|word| fill(word, Some(place), Some(&config))).collect())
    }

    /// The first line that tells its version.
    pub(crate) fn version(&self) -> String {
        let words: Vec<_> = self.version.iter().map(|word| fill(word, None, None)).collect();
        let Some((program, arguments)) = words.split_first() else { return String::new() };
        let output = Command::new(program).args(arguments).output();
        output.map(first_line).unwrap_or_default()
    }
}

/// nginx tells its version on standard error.
fn first_line(Output { stdout, stderr, .. }: Output) -> String {
    let text = if stdout.is_empty() { stderr } else { stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or("").to_owned()
}

fn fill(text: &str, place: Option<&Place<'_>>, config: Option<&Path>) -> String {
    let weir = std::env::var("WEIR_BIN").unwrap_or_else(|_| "weir".to_owned());
    let mut text = text.replace("${WEIR_BIN}", &weir);
    if let Some(Place { folder, port, origin }) = place {
        text = text.replace("${folder}", &folder.display().to_string());
        text = text.replace("${port}", &port.to_string()).replace("${origin}", &origin.to_string());
    }
    match config {
        Some(config) => text.replace("${config}", &config.display().to_string()),
        None => text,
    }
}
