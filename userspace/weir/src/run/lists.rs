//! The ban lists that a configuration names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weir_config::ban_list;
use weir_l4::Kernel;
use weir_model::{Ban, BanOrigin, Bans};

/// A list that was read.
pub(crate) struct List {
    name: String,
    bans: Vec<Ban>,
}

/// Reads every list of the configuration.
pub(crate) fn read(bans: &Bans) -> Result<Vec<List>> {
    bans.files.iter().map(read_one).collect()
}

fn read_one(path: &PathBuf) -> Result<List> {
    let text =
        std::fs::read(path).with_context(|| format!("read the ban list {}", path.display()))?;
    let list = ban_list::parse(&text);
    if let Some(first) = list.skipped.first() {
        let (path, count) = (path.display(), list.skipped_count);
        tracing::warn!("ban list {path}: {count} lines skipped, the first: {first}");
    }
    let name = name(path);
    let origin = BanOrigin::List(name.clone());
    let ban = |cidr| Ban { cidr, origin: origin.clone(), reason: String::new(), expires: None };
    Ok(List { bans: list.cidrs.into_iter().map(ban).collect(), name })
}

/// Whether all lists find room together, before any of them is put in force.
pub(crate) fn check(kernel: &Kernel, lists: &[List]) -> Result<()> {
    let bans = lists.iter().flat_map(|list| &list.bans);
    kernel.check_room(bans).context("load the ban lists")
}

/// Puts the lists in force; those that only `before` names are gone.
pub(crate) fn apply(kernel: &Kernel, lists: Vec<List>, before: &Bans) -> Result<()> {
    let gone = before.files.iter().map(|path| name(path));
    let gone: Vec<_> = gone.filter(|gone| lists.iter().all(|list| list.name != *gone)).collect();
    for List { name, bans } in lists {
        let changed = kernel.load_list(&name, bans, true);
        let changed = changed.with_context(|| format!("load the ban list {name}"))?;
        tracing::info!("ban list {name}: {} added, {} removed", changed.added, changed.removed);
    }
    for name in gone {
        kernel.drop_list(&name).with_context(|| format!("drop the ban list {name}"))?;
    }
    Ok(())
}

/// A list of the configuration goes by its path, which no list loaded by hand does.
fn name(path: &Path) -> String {
    path.display().to_string()
}
