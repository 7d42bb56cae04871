//! The kernel side as others see it. Bans change in `change.rs`, and are looked at in `look.rs`.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use weir_bans::{Hits, Registry};
use weir_model::{Cidr, LogLevel};

use crate::datapath::{Datapath, Guards, Probes, Tables, Vips};
use crate::store::Store;
use crate::types::{Attached, Counter};
use crate::{
    Error, Explained, FlowQuestion, GuardChange, GuardSeen, GuardSetting, GuardStats, VipProbe,
    VipStats, Wanted,
};

/// The XDP program with its maps. Dropping it detaches the program, unless it is pinned.
pub struct Kernel {
    pub(crate) datapath: Datapath,
    pub(crate) capacity: usize,
    state: Mutex<State>,
    vips: Mutex<Vips>,
    guards: Mutex<Guards>,
    /// Loaded while some VIP is probed.
    probes: Mutex<Option<Probes>>,
    /// One list at a time is loaded from outside.
    pub(crate) loading: AtomicBool,
    pub(crate) watchers: AtomicUsize,
}

/// What changes together. Held for the length of a change, so that registry, tables and disk agree.
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) tables: Tables,
    pub(crate) store: Option<Store>,
    /// What was counted in tables that are gone.
    pub(crate) carried: HashMap<Cidr, Hits>,
    /// Prefixes with a ban.
    pub(crate) banned: usize,
    /// Why each protected prefix is.
    pub(crate) protected: HashMap<Cidr, &'static str>,
    pub(crate) dry_run: bool,
    /// The tables do not say all that the registry does: a change could not be written.
    pub(crate) is_stale: bool,
    /// When a table could not be built, if none was since.
    pub(crate) failed: Option<Instant>,
    /// How long the last table took to build and publish.
    pub(crate) built_in: Duration,
}

impl Kernel {
    /// Loads the program, and the bans made live that the state folder holds. Nothing is in force
    /// before [`Kernel::configure`], nothing attached before [`Kernel::attach`].
    ///
    /// # Errors
    /// [`Error`]: not permitted, the kernel does not take the program, the state cannot be read.
    pub fn load(
        settings: &weir_model::Kernel,
        state: Option<&Path>,
        log: LogLevel,
    ) -> Result<Self, Error> {
        let (store, mut registry) = match state {
            None => (None, Registry::default()),
            Some(folder) => restore(folder)?,
        };
        registry.expire(SystemTime::now());
        let (datapath, mut tables, vips, guards) = Datapath::load(settings, state, log)?;
        tables.tell_time(SystemTime::now());
        let state = State {
            registry,
            store,
            tables,
            carried: HashMap::new(),
            banned: 0,
            protected: HashMap::new(),
            dry_run: false,
            is_stale: true,
            failed: None,
            built_in: Duration::ZERO,
        };
        Ok(Self {
            datapath,
            capacity: usize::try_from(settings.bans.capacity).unwrap_or(usize::MAX),
            state: Mutex::new(state),
            vips: Mutex::new(vips),
            guards: Mutex::new(guards),
            probes: Mutex::new(None),
            loading: AtomicBool::new(false),
            watchers: AtomicUsize::new(0),
        })
    }

    /// Attaches to every interface of the settings; a program that another process left there is
    /// replaced without a packet passing between.
    ///
    /// # Errors
    /// [`Error`]; then nothing new is left attached.
    pub fn attach(&self, settings: &weir_model::Kernel) -> Result<(), Error> {
        self.datapath.attach(settings)
    }

    /// Has everything end with this process, pinned or not.
    pub fn detach(&self) {
        self.datapath.unpin();
        lock(&self.guards).restore();
    }

    /// Leaves nothing behind, unless another process left it attached: for a start that failed.
    pub fn abandon(&self) {
        if !self.datapath.is_pinned() {
            self.datapath.unpin();
        }
    }

    /// Whether what is attached outlives this process.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.datapath.is_pinned()
    }

    /// Where the program is attached.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Attached> {
        self.datapath.interfaces()
    }

    /// Packets by verdict, those that did not occur included.
    ///
    /// # Errors
    /// The kernel does not let the map be read.
    pub fn counters(&self) -> Result<Vec<Counter>, Error> {
        self.datapath.counters()
    }

    /// Runs the program on a packet without sending it (`BPF_PROG_TEST_RUN`): the XDP action and
    /// the packet as the program left it.
    ///
    /// # Errors
    /// The kernel refuses the packet (shorter than an Ethernet header, larger than a page).
    pub fn test_run(&self, packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        self.datapath.test_run(packet)
    }

    /// Puts VIPs in force, or what has changed of them and of their backends.
    ///
    /// # Errors
    /// The kernel has no memory for it, or there are too many.
    pub fn balance(&self, wanted: &Wanted, now: Instant) -> Result<(), Error> {
        let guarded = {
            let mut vips = lock(&self.vips);
            vips.apply(wanted, now)?;
            vips.guarded()
        };
        lock(&self.guards).apply(&wanted.guard, guarded, now);
        Ok(())
    }

    /// Looks at the rates of SYNs, has VIPs and listeners guarded accordingly, and the operator's allow list
    /// respected; what has changed. A few times a second.
    #[must_use]
    pub fn tick_guard(&self, now: Instant, wall: SystemTime) -> Vec<GuardChange> {
        let allowed = self.state().registry.allowed();
        let mut guards = lock(&self.guards);
        guards.allow(&allowed);
        guards.tick(now, wall)
    }

    /// Guards a VIP or listener as the operator wants, from the next look on; false if there is none of
    /// this name.
    #[must_use]
    pub fn set_guard(&self, name: &str, setting: GuardSetting) -> bool {
        lock(&self.guards).set(name, setting)
    }

    /// Begins to note the most that is seen of traffic, for no longer than until then, or ends it; what was
    /// seen so far.
    #[must_use]
    pub fn learn_guard(&self, until: Option<Instant>) -> Option<GuardSeen> {
        lock(&self.guards).learn(until)
    }

    /// Sources that have stayed over a limit since the last call.
    #[must_use]
    pub fn guard_offenders(&self) -> Vec<Cidr> {
        lock(&self.guards).offenders()
    }

    /// The state of the flood guard.
    #[must_use]
    pub fn guard_stats(&self, now: Instant) -> GuardStats {
        lock(&self.guards).stats(now)
    }

    /// Whether weights are on their way, so that [`Kernel::balance`] has something to do though nothing
    /// else has changed.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        lock(&self.vips).is_under_way()
    }

    /// What time brings to VIPs, once a second: slots that were moving settle, neighbours are asked for.
    pub fn tick_vips(&self, now: Instant) {
        lock(&self.vips).tick(now);
    }

    /// Backends that were down when another process left what is pinned.
    #[must_use]
    pub fn known_down(&self) -> Vec<SocketAddr> {
        lock(&self.vips).known_down()
    }

    /// Has the VIP of this name served by listeners of this host, or forwarded again; in force with the
    /// next [`Kernel::balance`]. False if there is no such VIP.
    #[must_use]
    pub fn set_local(&self, name: &str, is_local: bool) -> bool {
        lock(&self.vips).set_local(name, is_local)
    }

    /// Every VIP in force, with its counters and backends.
    #[must_use]
    pub fn vips(&self) -> Vec<VipStats> {
        lock(&self.vips).stats()
    }

    /// Has probes take these ways, and no others; what the socket of each is to be marked with
    /// (`SO_MARK`).
    ///
    /// # Errors
    /// The kernel refuses the program, or there are too many.
    pub fn probe_vips(
        &self,
        wanted: &[VipProbe],
        settings: &weir_model::Kernel,
    ) -> Result<Vec<u32>, Error> {
        let mut probes = lock(&self.probes);
        if wanted.is_empty() {
            *probes = None;
            return Ok(Vec::new());
        }
        let held = match probes.take() {
            Some(held) => held,
            None => Probes::load(&settings.interfaces)?,
        };
        probes.insert(held).set(wanted, &settings.tunnel)
    }

    /// How many packets with such a mark have taken their way.
    #[must_use]
    pub fn probe_packets(&self, mark: u32) -> u64 {
        lock(&self.probes).as_ref().map_or(0, |probes| probes.taken(mark))
    }

    /// Which stage decides what for a flow, from the VIP on.
    #[must_use]
    pub fn explain(&self, asked: FlowQuestion) -> Explained {
        lock(&self.vips).explain(asked)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Builds a table of everything and puts it in force.
    pub(crate) fn rebuild(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        self.is_stale = true;
        self.failed = Some(began);
        let (counted, banned) = self.tables.replace(&self.registry)?;
        for (cidr, hits) in counted {
            let carried = self.carried.entry(cidr).or_default();
            *carried = carried.and(hits);
        }
        let registry = &self.registry;
        self.carried.retain(|&cidr, _| !registry.bans_of(cidr).is_empty());
        self.banned = banned;
        self.is_stale = false;
        self.failed = None;
        self.built_in = began.elapsed();
        Ok(())
    }
}

fn restore(folder: &Path) -> Result<(Option<Store>, Registry), Error> {
    let mut damaged = Vec::new();
    let opened = Store::open(folder, &mut damaged);
    damaged.iter().for_each(|what| tracing::warn!("skipped in the state folder: {what}"));
    let (store, registry) = opened.map_err(|cause| {
        let attempt = format!("read the bans in the state folder {}", folder.display());
        Error::Store { attempt, cause }
    })?;
    Ok((Some(store), registry))
}

/// Whoever panicked while holding it left nothing half done that a later change would not repair.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("interfaces", &self.interfaces()).finish_non_exhaustive()
    }
}
