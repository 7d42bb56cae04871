//! The ban lists that a configuration names: read, and read again when they change.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use weir_config::ban_list;
use weir_l4::{List, Loaded};
use weir_model::BanFile;

/// Reads every list, by name.
pub(crate) fn read(files: &[BanFile]) -> Result<Vec<(String, List)>> {
    files.iter().map(|file| Ok((name(&file.path), read_one(file)?))).collect()
}

pub(crate) fn read_one(file: &BanFile) -> Result<List> {
    let (path, now) = (file.path.display(), SystemTime::now());
    let text = std::fs::read(&file.path).with_context(|| format!("read the ban list {path}"))?;
    let mut list = List::new(now, file.dry_run);
    let report = ban_list::parse(&text, now, &mut |line| {
        list.push(line.cidr, line.reason, line.expires);
    });
    if let Some(first) = report.first.first() {
        tracing::warn!("ban list {path}: {} lines skipped, the first: {first}", report.skipped);
    }
    Ok(list)
}

/// Says what became of lists.
pub(crate) fn tell(loaded: &[(String, Loaded)]) {
    for (name, Loaded { changed, merged }) in loaded {
        tracing::info!(
            "ban list {name}: {} added, {} removed; merged {} duplicates, {} inside wider prefixes",
            changed.added,
            changed.removed,
            merged.duplicates,
            merged.covered
        );
    }
}

/// A list of the configuration goes by its path, which no list loaded by hand does.
pub(crate) fn name(path: &Path) -> String {
    path.display().to_string()
}
