//! Files that are read again when they change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells a file from another of the same name.
type Stamp = (u64, u64, i64, i64);

/// Files as they were read.
#[derive(Debug, Default)]
pub(crate) struct Watched(Vec<File>);

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// As it was read; `None` if it is gone.
    read: Option<Stamp>,
    /// As it was at the last look.
    seen: Option<Stamp>,
}

impl Watched {
    /// The files as they are now.
    pub(crate) fn now(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let watched = paths.into_iter().map(|path| {
            let stamp = stamp(&path);
            File { path, read: stamp, seen: stamp }
        });
        Self(watched.collect())
    }

    /// The files that have changed, and have been the same for two looks: nobody writes them any more.
    pub(crate) fn changed(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for file in &mut self.0 {
            let now = stamp(&file.path);
            let is_settled = now == file.seen;
            file.seen = now;
            if now == file.read || !is_settled {
                continue;
            }
            file.read = now;
            if now.is_some() {
                changed.push(file.path.clone());
            } else {
                tracing::warn!("{} is gone; what was read of it stays", file.path.display());
            }
        }
        changed
    }

    /// Whether all are as they were read, or have been taken note of.
    pub(crate) fn are_settled(&self) -> bool {
        self.0.iter().all(|file| file.seen == file.read)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}
