//! Maps and links in the BPF file system: what keeps the bans in force without a process.

use std::fs::File;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{FsType, statfs};
use weir_abi::ban::LAYOUT;

use crate::tables::layout_of;
use crate::{AttachMode, Error};

/// The maps that outlive a process; the first has the switches.
pub(crate) const MAPS: [&str; 22] = [
    "SHARED",
    "ARENAS",
    "PREFIXES6",
    "PENDING_HITS",
    "VERDICTS",
    "EVENTS",
    "EVENT_METERS",
    "BALANCER",
    "DIRECTORIES",
    "SLOT_TABLES",
    "MOVE_TABLES",
    "BACKENDS",
    "FLOWS",
    "NAT_FLOWS",
    "FRAGMENTS",
    "SERVERS",
    "VIP_COUNTERS",
    "BACKEND_COUNTERS",
    "GUARD_STATE",
    "GUARDS",
    "GUARD_COUNTERS",
    "PROVEN",
];

/// Of the BPF file system (linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// A pinned link is named by its mode and the index of its interface: names may hold dots, which the
/// BPF file system refuses.
const LINK: &str = "link-";

/// A folder of pins, held for this process alone.
#[derive(Debug)]
pub(crate) struct Pins {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Pins {
    /// Takes the folder, made where it is missing; `None` where there is no BPF file system.
    pub(crate) fn take(folder: &Path) -> Result<Option<Self>, Error> {
        let attempt = || format!("pin to {}", folder.display());
        let exists = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
        if !is_bpf(exists) {
            return Ok(None);
        }
        std::fs::create_dir_all(folder).map_err(|error| Error::of(attempt(), &error))?;
        let file = File::open(folder).map_err(|error| Error::of(attempt(), &error))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| Error::PinsTaken { folder: folder.to_owned() })?;
        Ok(Some(Self { folder: folder.to_owned(), _lock: lock }))
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn link(&self, mode: AttachMode, index: u32) -> PathBuf {
        self.folder.join(format!("{LINK}{}-{index}", mode.name()))
    }

    /// The pinned links.
    pub(crate) fn links(&self) -> Vec<PathBuf> {
        links(&self.folder)
    }

    /// Whether another process left maps here.
    pub(crate) fn has_maps(&self) -> bool {
        MAPS.iter().any(|name| self.map(name).exists())
    }

    /// Why the maps here cannot be taken over: they differ from those of the object.
    pub(crate) fn difference(&self, fresh: &Ebpf) -> Option<String> {
        let shapes = self.difference_of_shapes(fresh);
        shapes.or_else(|| {
            // Each begins with the number of its layout.
            let wanted = [
                ("SHARED", LAYOUT),
                ("BALANCER", weir_abi::vip::LAYOUT),
                ("GUARD_STATE", weir_abi::guard::LAYOUT),
            ];
            wanted.into_iter().find_map(|(name, wanted)| {
                let layout = layout_of(&MapData::from_pin(self.map(name)).ok()?, name);
                (layout != Some(wanted))
                    .then(|| format!("{name} has layout {layout:?}, and was to have {wanted}"))
            })
        })
    }

    fn difference_of_shapes(&self, fresh: &Ebpf) -> Option<String> {
        MAPS.iter().find_map(|name| {
            let shape = |map: &MapData| {
                let info = map.info().ok()?;
                let sizes = (info.key_size(), info.value_size(), info.max_entries());
                Some((info.map_type().ok()?, sizes, info.map_flags()))
            };
            let pinned = MapData::from_pin(self.map(name)).ok();
            let (pinned, own) = (pinned.as_ref().and_then(shape), fresh.map(name).and_then(data));
            let own = own.and_then(shape);
            (pinned.is_none() || pinned != own)
                .then(|| format!("{name} is {pinned:?}, and was to be {own:?}"))
        })
    }

    /// Removes every map, so that new ones take their places.
    pub(crate) fn remove_maps(&self) {
        remove_maps(&self.folder);
    }

    /// Removes everything: what is attached only by a pin is detached.
    pub(crate) fn remove(&self) {
        remove(&self.folder);
    }
}

impl Drop for Pins {
    /// Without a link that holds the program, maps are of no use.
    fn drop(&mut self) {
        if self.links().is_empty() {
            self.remove();
        }
    }
}

/// Takes down what a process that lives no more left in the BPF file system; how many interfaces.
///
/// # Errors
/// [`Error::PinsTaken`]: a process lives that holds it.
pub fn detach(folder: &Path) -> Result<usize, Error> {
    if !folder.exists() {
        return Ok(0);
    }
    let Some(pins) = Pins::take(folder)? else { return Ok(0) };
    let count = pins.links().len();
    pins.remove();
    Ok(count)
}

fn is_bpf(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == FsType(BPF_FS_MAGIC))
}

fn links(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(LINK));
    links.map(|entry| entry.path()).collect()
}

fn remove_maps(folder: &Path) {
    // One that is not there needs not to be removed.
    MAPS.iter().for_each(|name| drop(std::fs::remove_file(folder.join(name))));
}

fn remove(folder: &Path) {
    links(folder).iter().for_each(|link| drop(std::fs::remove_file(link)));
    remove_maps(folder);
    let _ = std::fs::remove_dir(folder);
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(map)
        | Map::ArrayOfMaps(map)
        | Map::PerCpuArray(map)
        | Map::RingBuf(map)
        | Map::LruHashMap(map)
        | Map::HashMap(map) => Some(map),
        _ => None,
    }
}
