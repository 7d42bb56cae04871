//! Scenarios: one question a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// What is asked of every target.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// The file's name.
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) question: String,
    /// What the figures do not say.
    pub(crate) misleads: String,
    /// Open client connections.
    pub(crate) connections: u32,
    pub(crate) path: String,
    /// Bytes of the origin's answer.
    pub(crate) body_size: usize,
}

/// Every scenario, by name.
pub(crate) fn all() -> Result<Vec<Scenario>> {
    let files = files("scenarios")?;
    let read = |(name, text): (String, String)| {
        let scenario: Scenario =
            toml::from_str(&text).with_context(|| format!("read the scenario {name}"))?;
        Ok(Scenario { name, ..scenario })
    };
    files.into_iter().map(read).collect()
}

/// The folder of this package.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Every TOML file of a folder, with its name.
pub(crate) fn files(name: &str) -> Result<Vec<(String, String)>> {
    let folder = folder().join(name);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        files.push((name, text));
    }
    files.sort();
    Ok(files)
}
