//! The ban lists that a configuration names: read, and read again when they change.

use std::os::unix::fs::MetadataExt;
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

/// What tells a file from another of the same name.
type Stamp = (u64, u64, i64, i64);

/// The files of the configuration as they were read.
#[derive(Debug, Default)]
pub(crate) struct Watched(Vec<WatchedFile>);

#[derive(Debug)]
struct WatchedFile {
    file: BanFile,
    /// As it was read; `None` if it is gone.
    read: Option<Stamp>,
    /// As it was at the last look.
    seen: Option<Stamp>,
}

impl Watched {
    /// The files as they are now.
    pub(crate) fn now(files: &[BanFile]) -> Self {
        let watched = files.iter().map(|file| {
            let stamp = stamp(&file.path);
            WatchedFile { file: file.clone(), read: stamp, seen: stamp }
        });
        Self(watched.collect())
    }

    /// The files that have changed, and have been the same for two looks: nobody writes them any more.
    pub(crate) fn changed(&mut self) -> Vec<BanFile> {
        let mut changed = Vec::new();
        for watched in &mut self.0 {
            let now = stamp(&watched.file.path);
            let is_settled = now == watched.seen;
            watched.seen = now;
            if now == watched.read || !is_settled {
                continue;
            }
            watched.read = now;
            if now.is_some() {
                changed.push(watched.file.clone());
            } else {
                let path = watched.file.path.display();
                tracing::warn!("ban list {path} is gone; the list in force stays");
            }
        }
        changed
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}
