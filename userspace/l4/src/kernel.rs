//! The kernel side as others see it: attached interfaces, bans, counters.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use weir_model::{Ban, Cidr, LogLevel};

use crate::Error;
use crate::datapath::{Datapath, Table};
use crate::registry::{Difference, Registry, longest};

/// Prefixes a family that the allow list holds.
pub(crate) const ALLOWED_MAX: usize = 65_536;

/// The XDP program with its maps. Dropping it detaches the program everywhere.
pub struct Kernel {
    datapath: Datapath,
    capacity: usize,
    /// Held for the length of a change, so that the registry and the maps agree.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bans: Registry,
    allowed: std::collections::BTreeSet<Cidr>,
}

/// An interface with the program attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// Where the program runs.
    pub mode: AttachMode,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel spends anything on a packet.
    Driver,
    /// In the network stack.
    Generic,
}

impl AttachMode {
    /// The word for status and log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Generic => "generic",
        }
    }
}

/// How many packets ended with a verdict, over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// `pass` or `drop`.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Packets since the program was loaded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a change did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Prefixes that are in force and were not before.
    pub added: usize,
    /// Prefixes that are not in force any more.
    pub removed: usize,
}

/// What the kernel does with packets of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No ban touches it.
    Clean,
    /// It is dropped, by the most specific ban.
    Banned(Ban),
    /// The allow list rules.
    Allowed {
        /// The most specific allowed prefix.
        by: Cidr,
        /// The ban that would drop it.
        banned_by: Option<Ban>,
    },
}

impl Kernel {
    /// Loads the program and attaches it to every interface of the settings, in force with their
    /// allow list and without bans.
    ///
    /// # Errors
    /// [`Error`]; then nothing is left attached.
    pub fn attach(settings: &weir_model::Kernel, log: LogLevel) -> Result<Self, Error> {
        let mut kernel = Self::load(settings, log)?;
        kernel.datapath.attach(settings)?;
        Ok(kernel)
    }

    /// Loads the program without attaching it: for [`Kernel::test_run`].
    ///
    /// # Errors
    /// [`Error`]: not permitted, or the kernel does not take the program.
    pub fn load(settings: &weir_model::Kernel, log: LogLevel) -> Result<Self, Error> {
        let capacity = settings.bans.capacity;
        let datapath = Datapath::load(capacity, log)?;
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let kernel = Self { datapath, capacity, state: Mutex::default() };
        kernel.allow(&settings.allow)?;
        Ok(kernel)
    }

    /// Where the program is attached.
    #[must_use]
    pub fn interfaces(&self) -> &[Attached] {
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

    /// Bans, or changes what is known of a ban.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Everything`], or the kernel's; then nothing was changed.
    pub fn ban(&self, bans: Vec<Ban>) -> Result<Changed, Error> {
        let mut state = self.state();
        let fresh = self.check(&state.bans, bans.iter())?;
        self.datapath.insert(Table::Bans, &fresh)?;
        Ok(changed(&state.bans.add(bans)))
    }

    /// Ends the bans of exactly these prefixes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unban(&self, cidrs: &[Cidr]) -> Result<Changed, Error> {
        let mut state = self.state();
        self.remove(&mut state.bans, cidrs)
    }

    /// Loads one list: adds to it, or replaces what it held. A prefix that an operator banned stays
    /// as it is.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Everything`], or the kernel's; then nothing was changed.
    pub fn load_list(&self, list: &str, bans: Vec<Ban>, replace: bool) -> Result<Changed, Error> {
        let mut state = self.state();
        let fresh = self.check(&state.bans, bans.iter())?;
        // First what is new, then what is gone: no moment in which a prefix of both is let through.
        self.datapath.insert(Table::Bans, &fresh)?;
        let difference = state.bans.load(list, bans, replace);
        self.datapath.remove(Table::Bans, &difference.removed)?;
        Ok(changed(&difference))
    }

    /// Ends the bans whose time has come; answers which.
    ///
    /// # Errors
    /// The kernel's; they are tried again the next time.
    pub fn expire(&self, now: SystemTime) -> Result<Vec<Cidr>, Error> {
        let mut state = self.state();
        let ended = state.bans.ended(now);
        self.remove(&mut state.bans, &ended)?;
        Ok(ended)
    }

    /// Every ban, by prefix.
    #[must_use]
    pub fn bans(&self) -> Vec<Ban> {
        self.state().bans.all()
    }

    /// How many prefixes are banned.
    #[must_use]
    pub fn ban_count(&self) -> usize {
        self.state().bans.len()
    }

    /// What happens to packets of an address.
    #[must_use]
    pub fn test(&self, address: IpAddr) -> Decision {
        let state = self.state();
        let banned_by = state.bans.find(address);
        let allowed = longest(address, |cidr| state.allowed.contains(&cidr));
        match (banned_by, allowed) {
            (banned_by, Some(by)) => Decision::Allowed { by, banned_by },
            (Some(ban), None) => Decision::Banned(ban),
            (None, None) => Decision::Clean,
        }
    }

    /// Adds to the allow list.
    ///
    /// # Errors
    /// [`Error::Full`], or the kernel's; then nothing was changed.
    pub fn allow(&self, cidrs: &[Cidr]) -> Result<Changed, Error> {
        let mut state = self.state();
        let added: Vec<_> =
            cidrs.iter().copied().filter(|cidr| !state.allowed.contains(cidr)).collect();
        let asked = state.allowed.len() + added.len();
        if asked > ALLOWED_MAX {
            return Err(Error::Full { family: "allowed", asked, capacity: ALLOWED_MAX });
        }
        self.datapath.insert(Table::Allowed, &added)?;
        let before = state.allowed.len();
        state.allowed.extend(added);
        Ok(Changed { added: state.allowed.len() - before, removed: 0 })
    }

    /// Takes exactly these prefixes off the allow list.
    ///
    /// # Errors
    /// The kernel's.
    pub fn disallow(&self, cidrs: &[Cidr]) -> Result<Changed, Error> {
        let mut state = self.state();
        let mut removed: Vec<_> =
            cidrs.iter().copied().filter(|cidr| state.allowed.contains(cidr)).collect();
        removed.sort_unstable();
        removed.dedup();
        self.datapath.remove(Table::Allowed, &removed)?;
        removed.iter().for_each(|cidr| {
            state.allowed.remove(cidr);
        });
        Ok(Changed { added: 0, removed: removed.len() })
    }

    /// The allow list.
    #[must_use]
    pub fn allowed(&self) -> Vec<Cidr> {
        self.state().allowed.iter().copied().collect()
    }

    /// Whether all of these could be banned together with what is banned.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Everything`].
    pub fn check_room<'a>(&self, bans: impl Iterator<Item = &'a Ban> + Clone) -> Result<(), Error> {
        self.check(&self.state().bans, bans).map(drop)
    }

    /// The bans of a list of the configuration that is in force no more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drop_list(&self, list: &str) -> Result<Changed, Error> {
        self.load_list(list, Vec::new(), true)
    }

    fn remove(&self, bans: &mut Registry, cidrs: &[Cidr]) -> Result<Changed, Error> {
        let mut known: Vec<_> = cidrs.iter().copied().filter(|&cidr| bans.contains(cidr)).collect();
        known.sort_unstable();
        known.dedup();
        self.datapath.remove(Table::Bans, &known)?;
        Ok(changed(&bans.remove(&known)))
    }

    /// The prefixes that the kernel does not hold yet, if all may be banned and fit.
    fn check<'a>(
        &self,
        known: &Registry,
        bans: impl Iterator<Item = &'a Ban> + Clone,
    ) -> Result<Vec<Cidr>, Error> {
        if let Some(ban) = bans.clone().find(|ban| ban.cidr.is_everything()) {
            return Err(Error::Everything(ban.cidr));
        }
        let fresh = fresh(known, bans);
        let v4 = fresh.iter().filter(|cidr| cidr.address().is_ipv4()).count();
        let (known_v4, known_v6) = known.by_family();
        for (family, asked) in [("IPv4", known_v4 + v4), ("IPv6", known_v6 + fresh.len() - v4)] {
            if asked > self.capacity {
                return Err(Error::Full { family, asked, capacity: self.capacity });
            }
        }
        Ok(fresh)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("interfaces", &self.interfaces()).finish_non_exhaustive()
    }
}

/// The prefixes of `bans` that the kernel does not hold yet, each once.
fn fresh<'a>(known: &Registry, bans: impl Iterator<Item = &'a Ban>) -> Vec<Cidr> {
    let cidrs = bans.map(|ban| ban.cidr);
    let mut fresh: Vec<_> = cidrs.filter(|&cidr| !known.contains(cidr)).collect();
    fresh.sort_unstable();
    fresh.dedup();
    fresh
}

fn changed(difference: &Difference) -> Changed {
    Changed { added: difference.added.len(), removed: difference.removed.len() }
}
