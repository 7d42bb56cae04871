//! The files of this package, and where results go.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::environment::Environment;

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

/// Writes a page, a table or a picture to the folder of this day and machine; tells where.
pub(crate) fn save(name: &str, text: &str) -> Result<()> {
    let folder = folder().join("results").join(Environment::read()?.folder());
    std::fs::create_dir_all(&folder).context("make the folder of the results")?;
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    eprintln!("bench: saved {}", path.display());
    Ok(())
}
