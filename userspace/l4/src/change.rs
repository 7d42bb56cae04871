//! How bans change: the registry, then the tables, and on disk what must survive.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use weir_bans::{Changed, List};
use weir_model::{Ban, Cidr};

use crate::Error;
use crate::kernel::{Kernel, State};
use crate::types::Loaded;

/// Prefixes that the allow list holds.
const ALLOWED_MAX: usize = 65_536;
/// Between two tries to build a table that failed.
const REBUILD_PAUSE: Duration = Duration::from_secs(10);

/// What a configuration says of sources.
#[derive(Debug, Default)]
pub struct Configured {
    /// Lists that were read, by name.
    pub lists: Vec<(String, List)>,
    /// Lists that the configuration before named and this one does not.
    pub gone: Vec<String>,
    /// Prefixes to allow.
    pub allow: Vec<Cidr>,
    /// Prefixes that the configuration before allowed and this one does not.
    pub disallow: Vec<Cidr>,
    /// Prefixes that only a forced ban touches, with why.
    pub protect: Vec<(Cidr, &'static str)>,
    /// Nothing is dropped for a ban, but counted as if.
    pub dry_run: bool,
}

impl Kernel {
    /// Puts a configuration in force, all of it or nothing; what became of each list.
    ///
    /// # Errors
    /// [`Error`]: no room, no memory.
    pub fn configure(&self, configured: Configured) -> Result<Vec<(String, Loaded)>, Error> {
        let mut state = self.state();
        let Configured { mut lists, gone, allow, disallow, protect, dry_run } = configured;
        let mut told = Vec::new();
        for (name, list) in &mut lists {
            let merged = list.merge();
            if let Some(cidr) = list.everything() {
                return Err(Error::Everything(cidr));
            }
            told.push((
                name.clone(),
                Loaded { changed: state.registry.difference(name, list), merged },
            ));
        }
        lists.retain(|(name, list)| !state.registry.is_same(name, list));
        let cidrs: Vec<Cidr> = protect.iter().map(|(cidr, _)| *cidr).collect();
        let mut changed = state.is_stale || !lists.is_empty() || !gone.is_empty();
        let before = state.registry.protected();
        changed |= state.registry.protect(&cidrs);
        let allowed = state.registry.allow(&allow);
        let disallowed = state.registry.disallow(&disallow);
        changed |= !allowed.is_empty() || !disallowed.is_empty();
        let mut lists_before = Vec::new();
        for (name, list) in lists {
            let before = state.registry.put_list(&name, list);
            lists_before.push((name, before));
        }
        for name in gone {
            let before = state.registry.take_list(&name);
            lists_before.push((name, before));
        }
        let done = state
            .check_room(self.capacity)
            .and_then(|()| if changed { state.rebuild() } else { Ok(()) });
        if let Err(error) = done {
            for (name, before) in lists_before {
                state.restore_list(&name, before);
            }
            state.registry.protect(&before);
            state.registry.disallow(&allowed);
            state.registry.allow(&disallowed);
            // Nothing of it was written, so the tables say what the registry does.
            state.is_stale = false;
            return Err(error);
        }
        state.protected = protect.into_iter().collect();
        state.dry_run = dry_run;
        state.tables.set_dry_run(dry_run);
        Ok(told)
    }

    /// Bans, or changes what is known of a ban.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Everything`], [`Error::Protected`], or the kernel's; then nothing was
    /// changed.
    pub fn ban(&self, bans: &[Ban]) -> Result<Changed, Error> {
        let mut state = self.state();
        let was_stale = state.is_stale;
        for ban in bans.iter().filter(|ban| !ban.forced) {
            if ban.cidr.is_everything() {
                return Err(Error::Everything(ban.cidr));
            }
            if let Some(by) = state.registry.protected_by(ban.cidr) {
                let why = state.protected.get(&by).copied().unwrap_or("");
                return Err(Error::Protected { cidr: ban.cidr, why: why.to_owned() });
            }
        }
        let before: Vec<_> =
            bans.iter().map(|ban| (ban.cidr, state.registry.live_of(ban.cidr))).collect();
        let mut edits = Vec::with_capacity(bans.len());
        for ban in bans {
            edits.push((ban.cidr, state.registry.bans_of(ban.cidr).is_empty()));
            state.registry.add(ban.clone());
        }
        let added = edits.iter().filter(|(_, is_new)| *is_new).count();
        let done = state
            .check_room(self.capacity)
            .and_then(|()| state.note("note bans", |store| store.banned(bans.iter())))
            .and_then(|()| state.write(&edits, added, 0));
        if let Err(error) = done {
            for (cidr, before) in before.into_iter().rev() {
                state.registry.set_live(cidr, before);
            }
            // What was noted would be there again after a restart.
            let fresh = edits.iter().filter(|(_, is_new)| *is_new).map(|(cidr, _)| *cidr);
            let _ = state.note("note bans", |store| store.unbanned(fresh));
            // Nothing was written, so the tables say what they did.
            state.is_stale = was_stale;
            return Err(error);
        }
        Ok(Changed { added, removed: 0 })
    }

    /// Ends the bans of exactly these prefixes.
    ///
    /// # Errors
    /// The kernel's, or the disk's; then they are tried again, or still in force.
    pub fn unban(&self, cidrs: &[Cidr]) -> Result<Changed, Error> {
        let mut state = self.state();
        let mut known: Vec<Cidr> = cidrs.to_vec();
        known.retain(|&cidr| !state.registry.bans_of(cidr).is_empty());
        known.sort_unstable();
        known.dedup();
        state.note("note the end of bans", |store| store.unbanned(known.iter().copied()))?;
        known.iter().for_each(|&cidr| drop(state.registry.remove(cidr)));
        state.take_out(&known)?;
        Ok(Changed { added: 0, removed: known.len() })
    }

    /// Loads one list: adds to it, or replaces what it held. It is wholly in force or not at all, and
    /// survives a restart.
    ///
    /// # Errors
    /// [`Error::Loading`], [`Error::Full`], [`Error::Everything`], the kernel's, or the disk's; then
    /// the list in force stays.
    pub fn load_list(
        &self,
        name: &str,
        mut list: List,
        replace: bool,
        force: bool,
    ) -> Result<Loaded, Error> {
        let _loading = Loading::begin(&self.loading)?;
        let mut merged = list.merge();
        if let Some(cidr) = list.everything().filter(|_| !force) {
            return Err(Error::Everything(cidr));
        }
        let mut state = self.state();
        if !replace {
            let own = list.len();
            state.registry.extend(name, &mut list);
            let both = list.merge();
            // What was there before is no duplicate of this list's.
            merged.covered += both.covered.min(own);
        }
        let changed = state.registry.difference(name, &list);
        let before = state.registry.put_list(name, list);
        let done = state.check_room(self.capacity).and_then(|()| state.write_list(name));
        if let Err(error) = done {
            state.restore_list(name, before);
            state.is_stale = false;
            if let Some(store) = &state.store {
                store.forget_next(name);
            }
            return Err(error);
        }
        state.note("the list is in force, but not kept for a restart: keep it", |store| {
            store.keep_list(name)
        })?;
        Ok(Loaded { changed, merged })
    }

    /// Ends all bans of a list that was loaded.
    ///
    /// # Errors
    /// The kernel's, or the disk's.
    pub fn drop_list(&self, name: &str) -> Result<Changed, Error> {
        let _loading = Loading::begin(&self.loading)?;
        let mut state = self.state();
        let Some(list) = state.registry.take_list(name) else { return Ok(Changed::default()) };
        let removed = list.len();
        if let Err(error) = state.rebuild() {
            state.registry.put_list(name, list);
            state.is_stale = false;
            return Err(error);
        }
        state.note("drop the list", |store| store.drop_list(name))?;
        Ok(Changed { added: 0, removed })
    }

    /// What time brings: the clock of the program, the end of bans, what could not be written before.
    /// Answers which bans ended.
    ///
    /// # Errors
    /// The kernel's; it is tried again the next time.
    pub fn tick(&self, now: SystemTime) -> Result<Vec<Ban>, Error> {
        let mut state = self.state();
        state.tables.tell_time(now);
        let ended = state.registry.expire(now);
        let mut cidrs: Vec<Cidr> = ended.iter().map(|ban| ban.cidr).collect();
        cidrs.sort_unstable();
        cidrs.dedup();
        if state.is_stale {
            // Where there is no memory for it, trying at every tick would only make that worse.
            if state.failed.is_none_or(|failed| failed.elapsed() >= REBUILD_PAUSE) {
                state.rebuild()?;
            }
        } else if !cidrs.is_empty() {
            state.take_out(&cidrs)?;
        }
        if let Some(store) = &mut state.store {
            let shortened = store.shorten_if_long();
            shortened.map_err(|cause| Error::Store {
                attempt: "shorten the journal in the state folder".to_owned(),
                cause,
            })?;
        }
        Ok(ended)
    }

    /// Adds to the allow list.
    ///
    /// # Errors
    /// [`Error::AllowedFull`], the kernel's, or the disk's; then nothing was changed.
    pub fn allow(&self, cidrs: &[Cidr]) -> Result<Changed, Error> {
        let mut state = self.state();
        let fresh = state.registry.allow(cidrs);
        let asked = state.registry.allowed().len();
        let edits: Vec<_> = fresh.iter().map(|cidr| (*cidr, false)).collect();
        let room = if asked > ALLOWED_MAX {
            Err(Error::AllowedFull { asked, capacity: ALLOWED_MAX })
        } else {
            Ok(())
        };
        let done = room
            .and_then(|()| state.write(&edits, 0, 0))
            .and_then(|()| state.note("note what is allowed", |store| store.allowed(&fresh)));
        if let Err(error) = done {
            state.registry.disallow(&fresh);
            state.is_stale = true;
            return Err(error);
        }
        Ok(Changed { added: fresh.len(), removed: 0 })
    }

    /// Takes exactly these prefixes off the allow list.
    ///
    /// # Errors
    /// The kernel's, or the disk's.
    pub fn disallow(&self, cidrs: &[Cidr]) -> Result<Changed, Error> {
        let mut state = self.state();
        let gone = state.registry.disallow(cidrs);
        let edits: Vec<_> = gone.iter().map(|cidr| (*cidr, false)).collect();
        state.write(&edits, 0, 0)?;
        state.note("note what is allowed", |store| store.disallowed(&gone))?;
        Ok(Changed { added: 0, removed: gone.len() })
    }
}

impl State {
    /// Writes what the registry says of these prefixes into the tables; those marked are new.
    fn write(&mut self, edits: &[(Cidr, bool)], added: usize, removed: usize) -> Result<(), Error> {
        if self.is_stale || !self.tables.edit(&self.registry, edits, SystemTime::now())? {
            return self.rebuild();
        }
        for (cidr, _) in edits.iter().filter(|(_, is_new)| *is_new) {
            self.carried.remove(cidr);
        }
        self.banned = (self.banned + added).saturating_sub(removed);
        Ok(())
    }

    /// Writes that bans of these prefixes have ended; where that fails it is tried again.
    fn take_out(&mut self, cidrs: &[Cidr]) -> Result<(), Error> {
        let edits: Vec<_> = cidrs.iter().map(|cidr| (*cidr, false)).collect();
        let removed = cidrs.iter().filter(|&&cidr| self.registry.bans_of(cidr).is_empty()).count();
        let written = self.write(&edits, 0, removed);
        self.is_stale |= written.is_err();
        written
    }

    /// Writes the list to disk, where it does not count yet, and puts it in force.
    fn write_list(&mut self, name: &str) -> Result<(), Error> {
        if let Some(store) = &self.store {
            let written = store.write_list(name, &self.registry);
            written
                .map_err(|cause| Error::Store { attempt: "write the list".to_owned(), cause })?;
        }
        self.rebuild()
    }

    fn restore_list(&mut self, name: &str, before: Option<List>) {
        match before {
            Some(before) => drop(self.registry.put_list(name, before)),
            None => drop(self.registry.take_list(name)),
        }
    }

    fn note(
        &mut self,
        attempt: &str,
        note: impl FnOnce(&mut crate::store::Store) -> io::Result<()>,
    ) -> Result<(), Error> {
        let Some(store) = &mut self.store else { return Ok(()) };
        note(store).map_err(|cause| Error::Store {
            attempt: format!("{attempt} in the state folder"),
            cause,
        })
    }

    fn check_room(&self, capacity: usize) -> Result<(), Error> {
        let (v4, v6) = self.registry.named();
        for (family, asked) in [("IPv4", v4), ("IPv6", v6)] {
            if asked > capacity {
                return Err(Error::Full { family, asked, capacity });
            }
        }
        Ok(())
    }
}

/// Held while a list is loaded.
struct Loading<'a>(&'a AtomicBool);

impl<'a> Loading<'a> {
    fn begin(loading: &'a AtomicBool) -> Result<Self, Error> {
        if loading.swap(true, Ordering::AcqRel) { Err(Error::Loading) } else { Ok(Self(loading)) }
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
