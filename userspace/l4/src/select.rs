//! Which reactor gets a connection: the program of `ebpf/sock` on each listener's group of sockets.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Map, MapData, SockMap};
use aya::programs::SkReuseport;
use aya::{Ebpf, EbpfLoader};
use weir_abi::sock::{COUNT, CPUS, CPUS_MAX, ENTRIES, LIMIT, OPEN, REACTORS_MAX, limit};

use crate::Error;
use crate::mapped::Mapped;
use crate::tables::missing;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-select.o"));

const ATTEMPT: &str = "select reactors by CPU";

/// Sockets that the kernel selects from, by the configured address of their listener.
pub type Group = (SocketAddr, Arc<Vec<TcpListener>>);

/// The groups among whose sockets the program selects. It goes on with them when this is dropped, by what it
/// was last told.
#[derive(Default)]
pub struct Selector {
    groups: Vec<Selected>,
}

struct Selected {
    group: Group,
    shares: Mapped,
    // Kept for its maps.
    _ebpf: Ebpf,
}

impl Selector {
    /// Selects in these groups from now on: between the first sockets, one a reactor, whose cores are given
    /// where they have one. Groups that were known stay as they are.
    ///
    /// # Errors
    /// The kernel refuses; then it goes by hash.
    pub fn follow(&mut self, groups: Vec<Group>, cores: &[Option<usize>]) -> Result<(), Error> {
        self.groups.retain(|known| groups.iter().any(|group| is_same(group, &known.group)));
        for group in groups {
            let is_known = self.groups.iter().any(|known| is_same(&group, &known.group));
            // One reactor leaves no choice, and of so many not all can be told apart.
            if !is_known && cores.len() > 1 && cores.len() <= REACTORS_MAX as usize {
                self.groups.push(Selected::attach(group, cores)?);
            }
        }
        Ok(())
    }

    /// Tells how many connections each reactor has open.
    pub fn tell(&self, open: &[u32]) {
        let total: u64 = open.iter().copied().map(u64::from).sum();
        let limit = limit(total, open.len() as u64);
        for selected in &self.groups {
            selected.tell(LIMIT, limit);
            for (reactor, &open) in (0..REACTORS_MAX).zip(open) {
                selected.tell(OPEN + reactor, open.into());
            }
        }
    }

    /// Whether the program selects anywhere.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.groups.is_empty()
    }
}

/// Has the kernel go by hash in these groups, whatever another process left there.
pub fn unselect(groups: &[Group]) {
    for socket in groups.iter().filter_map(|(_, sockets)| sockets.first()) {
        // There may be no program.
        let _ = SkReuseport::detach(socket);
    }
}

fn is_same(one: &Group, other: &Group) -> bool {
    one.0 == other.0 && Arc::ptr_eq(&one.1, &other.1)
}

impl Selected {
    fn attach(group: Group, cores: &[Option<usize>]) -> Result<Self, Error> {
        let error = |error: &(dyn std::error::Error + 'static)| Error::of(ATTEMPT, error);
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|cause| error(&cause))?;
        let Some(Map::Array(shares)) = ebpf.take_map("SHARES") else {
            return Err(missing("SHARES"));
        };
        let shares = Mapped::of(&shares, 2 * ENTRIES as usize).map_err(|cause| error(&cause))?;
        let sockets = ebpf.map_mut("SOCKETS").ok_or_else(|| missing("SOCKETS"))?;
        let mut sockets =
            SockMap::<&mut MapData>::try_from(sockets).map_err(|cause| error(&cause))?;
        for (reactor, socket) in (0..REACTORS_MAX).zip(group.1.iter()).take(cores.len()) {
            sockets.set(reactor, socket, 0).map_err(|cause| error(&cause))?;
        }
        let program = ebpf.program_mut("weir_select").ok_or_else(|| missing("weir_select"))?;
        let program: &mut SkReuseport = program.try_into().map_err(|cause| {
            let cause: aya::programs::ProgramError = cause;
            error(&cause)
        })?;
        program.load().map_err(|cause| error(&cause))?;
        let socket = group.1.first().ok_or_else(|| missing("SOCKETS"))?;
        program.attach(socket).map_err(|cause| error(&cause))?;
        let selected = Self { shares, _ebpf: ebpf, group };
        selected.tell(COUNT, cores.len() as u64);
        selected.tell(LIMIT, limit(0, 1));
        for (reactor, core) in (1u64..).zip(cores) {
            let cpu = core.and_then(|core| u32::try_from(core).ok()).filter(|&cpu| cpu < CPUS_MAX);
            cpu.iter().for_each(|cpu| selected.tell(CPUS + cpu, reactor));
        }
        Ok(selected)
    }

    fn tell(&self, entry: u32, value: u64) {
        let entries: &[AtomicU64] = self.shares.pairs(0, ENTRIES as usize);
        if let Some(known) = entries.get(entry as usize) {
            known.store(value, Ordering::Relaxed);
        }
    }
}
