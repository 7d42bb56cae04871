//! Every ban with who made it, why and until when; the allow list and what is protected.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::IpAddr;
use std::time::SystemTime;

use weir_model::{Ban, Cidr};

use crate::family::{Abouts, Family, ban_of, level_of};
use crate::list::{About, Entry, List};
use crate::prefix::{Address, Prefix};
use crate::rule::{Banned, Rule};

/// Everything that is said of sources.
#[derive(Debug, Default)]
pub struct Registry {
    v4: Family<u32>,
    v6: Family<u128>,
    abouts: Abouts,
    /// When bans end. One that was changed since stands here too; it is looked up when its time comes.
    ends: BinaryHeap<Reverse<(SystemTime, Cidr)>>,
}

/// What a change did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Prefixes that are said now and were not before.
    pub added: usize,
    /// Prefixes that are said no more.
    pub removed: usize,
}

/// A list of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListState {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: usize,
    /// When it was loaded.
    pub created: SystemTime,
    /// Its packets are counted, but not dropped.
    pub dry_run: bool,
}

/// What happens to packets of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No ban touches it.
    Clean,
    /// It is dropped, by the most specific ban.
    Banned(Ban),
    /// It would be dropped, by a ban that is tried without effect.
    WouldDrop(Ban),
    /// The allow list rules.
    Allowed {
        /// The most specific allowed prefix.
        by: Cidr,
        /// The ban that would drop it.
        banned_by: Option<Ban>,
    },
    /// A ban would drop it, but it is protected: loopback, a backend, the operator's own.
    Protected {
        /// The prefix that protects it.
        by: Cidr,
        /// The ban that would drop it.
        banned_by: Ban,
    },
}

impl Registry {
    /// Bans, or changes what the same origin said of the prefix before.
    pub fn add(&mut self, ban: Ban) {
        self.ends.extend(ban.expires.map(|expires| Reverse((expires, ban.cidr))));
        match (Prefix::<u32>::of(ban.cidr), Prefix::<u128>::of(ban.cidr)) {
            (Some(prefix), _) => put(self.v4.live.entry(prefix).or_default(), ban),
            (None, Some(prefix)) => put(self.v6.live.entry(prefix).or_default(), ban),
            (None, None) => {}
        }
    }

    /// Ends every ban of exactly this prefix; the bans that were.
    pub fn remove(&mut self, cidr: Cidr) -> Vec<Ban> {
        match (Prefix::of(cidr), Prefix::of(cidr)) {
            (Some(prefix), _) => remove(&mut self.v4, &self.abouts, prefix),
            (None, Some(prefix)) => remove(&mut self.v6, &self.abouts, prefix),
            (None, None) => Vec::new(),
        }
    }

    /// Puts a merged list in the place of what it held before; what it held.
    pub fn put_list(&mut self, name: &str, list: List) -> Option<List> {
        let expiring = list.about.notes.iter().any(|note| note.expires.is_some());
        if expiring {
            let ends =
                |note: u32| list.about.notes.get(note as usize).and_then(|note| note.expires);
            let v4 = list.v4.iter().map(|entry| (ends(entry.note), entry.prefix.cidr()));
            let v6 = list.v6.iter().map(|entry| (ends(entry.note), entry.prefix.cidr()));
            self.ends.extend(v4.chain(v6).filter_map(|(end, cidr)| Some(Reverse((end?, cidr)))));
        }
        let mut before = List::new(SystemTime::UNIX_EPOCH, false);
        before.v4 = self.v4.lists.insert(name.to_owned(), list.v4).unwrap_or_default();
        before.v6 = self.v6.lists.insert(name.to_owned(), list.v6).unwrap_or_default();
        before.about = self.abouts.insert(name.to_owned(), list.about)?;
        Some(before)
    }

    /// Takes a list away; what it held.
    pub fn take_list(&mut self, name: &str) -> Option<List> {
        let about = self.abouts.remove(name)?;
        let mut list = List::new(SystemTime::UNIX_EPOCH, false);
        list.about = about;
        list.v4 = self.v4.lists.remove(name).unwrap_or_default();
        list.v6 = self.v6.lists.remove(name).unwrap_or_default();
        Some(list)
    }

    /// What a list gains and loses when `next` takes its place.
    #[must_use]
    pub fn difference(&self, name: &str, next: &List) -> Changed {
        let v4 = difference(self.v4.lists.get(name).map_or(&[][..], Vec::as_slice), &next.v4);
        let v6 = difference(self.v6.lists.get(name).map_or(&[][..], Vec::as_slice), &next.v6);
        Changed { added: v4.added + v6.added, removed: v4.removed + v6.removed }
    }

    /// Adds to a list that is read what the one in force holds.
    pub fn extend(&self, name: &str, next: &mut List) {
        let Some(about) = self.abouts.get(name) else { return };
        for entry in self.v4.lists.get(name).into_iter().flatten() {
            let ban = ban_of(name, about, entry);
            next.push(ban.cidr, &ban.reason, ban.expires);
        }
        for entry in self.v6.lists.get(name).into_iter().flatten() {
            let ban = ban_of(name, about, entry);
            next.push(ban.cidr, &ban.reason, ban.expires);
        }
    }

    /// Ends the bans whose time has come; those that ended.
    pub fn expire(&mut self, now: SystemTime) -> Vec<Ban> {
        let mut due = BTreeSet::new();
        while let Some(Reverse((end, cidr))) = self.ends.peek()
            && *end <= now
        {
            due.insert(*cidr);
            self.ends.pop();
        }
        if due.is_empty() {
            return Vec::new();
        }
        let is_over = |ban: &Ban| ban.expires.is_some_and(|expires| expires <= now);
        let mut gone = Vec::new();
        for cidr in due {
            match (Prefix::of(cidr), Prefix::of(cidr)) {
                (Some(prefix), _) => gone.extend(end(&mut self.v4, prefix, is_over)),
                (None, Some(prefix)) => gone.extend(end(&mut self.v6, prefix, is_over)),
                (None, None) => {}
            }
        }
        // A list in one pass: thousands of its prefixes may end together.
        for (name, about) in &self.abouts {
            if about.notes.iter().any(|note| note.expires.is_some_and(|end| end <= now)) {
                gone.extend(end_of_list(&mut self.v4, name, about, is_over));
                gone.extend(end_of_list(&mut self.v6, name, about, is_over));
            }
        }
        gone
    }

    /// Adds to the allow list; the prefixes that were not on it.
    pub fn allow(&mut self, cidrs: &[Cidr]) -> Vec<Cidr> {
        let mut fresh = cidrs.to_vec();
        fresh.retain(|&cidr| match (Prefix::of(cidr), Prefix::of(cidr)) {
            (Some(prefix), _) => self.v4.allowed.insert(prefix),
            (None, Some(prefix)) => self.v6.allowed.insert(prefix),
            (None, None) => false,
        });
        fresh
    }

    /// Takes off the allow list; the prefixes that were on it.
    pub fn disallow(&mut self, cidrs: &[Cidr]) -> Vec<Cidr> {
        let mut gone = cidrs.to_vec();
        gone.retain(|&cidr| match (Prefix::of(cidr), Prefix::of(cidr)) {
            (Some(prefix), _) => self.v4.allowed.remove(&prefix),
            (None, Some(prefix)) => self.v6.allowed.remove(&prefix),
            (None, None) => false,
        });
        gone
    }

    /// The allow list, sorted.
    #[must_use]
    pub fn allowed(&self) -> Vec<Cidr> {
        let v4 = self.v4.allowed.iter().map(|prefix| prefix.cidr());
        v4.chain(self.v6.allowed.iter().map(|prefix| prefix.cidr())).collect()
    }

    /// Replaces what is protected; whether anything changed.
    pub fn protect(&mut self, cidrs: &[Cidr]) -> bool {
        let v4: BTreeSet<_> = cidrs.iter().filter_map(|&cidr| Prefix::of(cidr)).collect();
        let v6: BTreeSet<_> = cidrs.iter().filter_map(|&cidr| Prefix::of(cidr)).collect();
        let changed = v4 != self.v4.protected || v6 != self.v6.protected;
        (self.v4.protected, self.v6.protected) = (v4, v6);
        changed
    }

    /// The protected prefix that holds all of `cidr`: a ban of it would have no effect.
    #[must_use]
    pub fn protected_by(&self, cidr: Cidr) -> Option<Cidr> {
        match (Prefix::of(cidr), Prefix::of(cidr)) {
            (Some(prefix), _) => holder(&self.v4.protected, prefix),
            (None, Some(prefix)) => holder(&self.v6.protected, prefix),
            (None, None) => None,
        }
    }

    /// What happens to packets of an address, and who decides.
    #[must_use]
    pub fn test(&self, address: IpAddr) -> Decision {
        let cidr = Cidr::host(address);
        match (Prefix::of(cidr), Prefix::of(cidr)) {
            (Some(host), _) => decide(&self.v4, &self.abouts, host),
            (None, Some(host)) => decide(&self.v6, &self.abouts, host),
            (None, None) => Decision::Clean,
        }
    }

    /// The bans of exactly this prefix.
    #[must_use]
    pub fn bans_of(&self, cidr: Cidr) -> Vec<Ban> {
        match (Prefix::of(cidr), Prefix::of(cidr)) {
            (Some(prefix), _) => self.v4.bans_of(prefix, &self.abouts),
            (None, Some(prefix)) => self.v6.bans_of(prefix, &self.abouts),
            (None, None) => Vec::new(),
        }
    }

    /// Up to `count` banned prefixes behind `after`, IPv4 before IPv6, sorted.
    #[must_use]
    pub fn prefixes_after(&self, after: Option<Cidr>, count: usize) -> Vec<Cidr> {
        let v6_after = after.and_then(Prefix::of);
        let mut found: Vec<Cidr> = Vec::new();
        if v6_after.is_none() {
            let after = after.and_then(Prefix::of);
            found.extend(self.v4.after(after, count).into_iter().map(Prefix::cidr));
        }
        let rest = count - found.len();
        found.extend(self.v6.after(v6_after, rest).into_iter().map(Prefix::cidr));
        found
    }

    /// The bans made one by one of exactly this prefix.
    #[must_use]
    pub fn live_of(&self, cidr: Cidr) -> Vec<Ban> {
        match (Prefix::of(cidr), Prefix::of(cidr)) {
            (Some(prefix), _) => self.v4.live.get(&prefix).cloned().unwrap_or_default(),
            (None, Some(prefix)) => self.v6.live.get(&prefix).cloned().unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }

    /// Sets them, as [`Registry::live_of`] gave them.
    pub fn set_live(&mut self, cidr: Cidr, bans: Vec<Ban>) {
        match (Prefix::of(cidr), Prefix::of(cidr)) {
            (Some(prefix), _) => set(&mut self.v4.live, prefix, bans),
            (None, Some(prefix)) => set(&mut self.v6.live, prefix, bans),
            (None, None) => {}
        }
    }

    /// How many prefixes have a ban made one by one.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.v4.live.len() + self.v6.live.len()
    }

    /// What is protected, sorted.
    #[must_use]
    pub fn protected(&self) -> Vec<Cidr> {
        let v4 = self.v4.protected.iter().map(|prefix| prefix.cidr());
        v4.chain(self.v6.protected.iter().map(|prefix| prefix.cidr())).collect()
    }

    /// Whether a merged list says exactly what the one in force does.
    #[must_use]
    pub fn is_same(&self, name: &str, list: &List) -> bool {
        self.abouts.get(name).is_some_and(|about| {
            about.dry_run == list.about.dry_run
                && about.notes == list.about.notes
                && self.v4.lists.get(name).is_some_and(|entries| *entries == list.v4)
                && self.v6.lists.get(name).is_some_and(|entries| *entries == list.v6)
        })
    }

    /// Tells of every prefix of a list, with reason and end.
    ///
    /// # Errors
    /// The first of `tell`.
    pub fn each_of_list<E>(
        &self,
        name: &str,
        mut tell: impl FnMut(Cidr, &str, Option<SystemTime>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(about) = self.abouts.get(name) else { return Ok(()) };
        let mut each = |cidr, note: u32| match about.notes.get(note as usize) {
            Some(note) => tell(cidr, &note.reason, note.expires),
            None => tell(cidr, "", None),
        };
        for entry in self.v4.lists.get(name).into_iter().flatten() {
            each(entry.prefix.cidr(), entry.note)?;
        }
        for entry in self.v6.lists.get(name).into_iter().flatten() {
            each(entry.prefix.cidr(), entry.note)?;
        }
        Ok(())
    }

    /// Every ban made one by one.
    pub fn live(&self) -> impl Iterator<Item = &Ban> {
        self.v4.live.values().chain(self.v6.live.values()).flatten()
    }

    /// Every ban of a list.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<Ban> {
        let Some(about) = self.abouts.get(name) else { return Vec::new() };
        let v4 = self.v4.lists.get(name).into_iter().flatten();
        let v6 = self.v6.lists.get(name).into_iter().flatten();
        v4.map(|entry| ban_of(name, about, entry))
            .chain(v6.map(|entry| ban_of(name, about, entry)))
            .collect()
    }

    /// The lists, by name.
    #[must_use]
    pub fn lists(&self) -> Vec<ListState> {
        let state = |(name, about): (&String, &About)| ListState {
            name: name.clone(),
            prefixes: self.v4.lists.get(name).map_or(0, Vec::len)
                + self.v6.lists.get(name).map_or(0, Vec::len),
            created: about.created,
            dry_run: about.dry_run,
        };
        self.abouts.iter().map(state).collect()
    }

    /// How many prefixes of a family bans name, those of several counted as often: `(IPv4, IPv6)`.
    #[must_use]
    pub fn named(&self) -> (usize, usize) {
        (self.v4.named(), self.v6.named())
    }

    /// The rules of IPv4: all, or those that matter inside a prefix.
    #[must_use]
    pub fn rules4(&self, within: Option<Prefix<u32>>) -> Vec<Rule<u32>> {
        match within {
            None => self.v4.rules(&self.abouts),
            Some(within) => self.v4.rules_of(within, &self.abouts),
        }
    }

    /// Every rule of IPv6, as an exact look-up wants them: a protected prefix is allowed unless a
    /// forced ban is around it.
    #[must_use]
    pub fn rules6(&self) -> Vec<Rule<u128>> {
        let rules = self.v6.rules(&self.abouts);
        rules.into_iter().filter_map(|rule| self.exact6(rule)).collect()
    }

    /// The rule of IPv6 for exactly this prefix, in the same way.
    #[must_use]
    pub fn rule6(&self, prefix: Prefix<u128>) -> Option<Rule<u128>> {
        self.exact6(self.v6.rule(prefix, &self.abouts)?)
    }

    /// The protected prefixes of IPv6 inside another.
    #[must_use]
    pub fn protected6(&self, within: Prefix<u128>) -> Vec<Prefix<u128>> {
        let protected = self.v6.protected.iter().copied();
        protected.filter(|&prefix| within.holds(prefix)).collect()
    }

    fn exact6(&self, mut rule: Rule<u128>) -> Option<Rule<u128>> {
        if rule.protected && !rule.allowed {
            let around = rule.prefix.holders();
            let mut around = around.filter_map(|prefix| self.v6.rule(prefix, &self.abouts));
            rule.allowed = !around.any(|rule| rule.banned == Banned::Forced);
        }
        (rule.allowed || rule.banned != Banned::No).then_some(rule)
    }
}

fn set<A: Address>(live: &mut BTreeMap<Prefix<A>, Vec<Ban>>, prefix: Prefix<A>, bans: Vec<Ban>) {
    if bans.is_empty() {
        live.remove(&prefix);
    } else {
        live.insert(prefix, bans);
    }
}

/// Adds a ban of a prefix, or replaces that of the same origin; the operator's stand first.
fn put(bans: &mut Vec<Ban>, ban: Ban) {
    match bans.iter_mut().find(|known| known.origin == ban.origin) {
        Some(known) => *known = ban,
        None => {
            bans.push(ban);
            bans.sort_by(|one, other| one.origin.cmp(&other.origin));
        }
    }
}

/// Ends every ban of a prefix; those that were.
fn remove<A: Address>(family: &mut Family<A>, abouts: &Abouts, prefix: Prefix<A>) -> Vec<Ban> {
    let gone = family.bans_of(prefix, abouts);
    family.live.remove(&prefix);
    for entries in family.lists.values_mut() {
        if let Ok(place) = entries.binary_search_by_key(&prefix, |entry| entry.prefix) {
            entries.remove(place);
        }
    }
    gone
}

/// Ends the bans of a prefix, made one by one, that are over; those that were.
fn end<A: Address>(
    family: &mut Family<A>,
    prefix: Prefix<A>,
    is_over: impl Fn(&Ban) -> bool,
) -> Vec<Ban> {
    let Some(mut bans) = family.live.remove(&prefix) else { return Vec::new() };
    let gone = bans.extract_if(.., |ban| is_over(ban)).collect();
    if !bans.is_empty() {
        family.live.insert(prefix, bans);
    }
    gone
}

/// The same for a list.
fn end_of_list<A: Address>(
    family: &mut Family<A>,
    name: &str,
    about: &About,
    is_over: impl Fn(&Ban) -> bool,
) -> Vec<Ban> {
    let Some(entries) = family.lists.get_mut(name) else { return Vec::new() };
    let over = entries.extract_if(.., |entry| is_over(&ban_of(name, about, entry)));
    over.map(|entry| ban_of(name, about, &entry)).collect()
}

fn decide<A: Address>(family: &Family<A>, abouts: &Abouts, host: Prefix<A>) -> Decision {
    let (mut forced, mut enforced, mut tried) = (None, None, None);
    for ban in host.holders().flat_map(|prefix| family.bans_of(prefix, abouts)) {
        let level = level_of(&ban);
        if level == Banned::Forced {
            forced.get_or_insert(ban.clone());
        }
        if level == Banned::DryRun { &mut tried } else { &mut enforced }.get_or_insert(ban);
    }
    let allowed = holder(&family.allowed, host);
    let protected = holder(&family.protected, host);
    let dropping = if protected.is_some() { forced.or(enforced) } else { enforced };
    match (dropping.or(tried), allowed, protected) {
        (banned_by, Some(by), _) => Decision::Allowed { by, banned_by },
        (None, None, _) => Decision::Clean,
        (Some(ban), None, Some(by)) if !ban.forced => Decision::Protected { by, banned_by: ban },
        (Some(ban), None, _) if ban.dry_run => Decision::WouldDrop(ban),
        (Some(ban), None, _) => Decision::Banned(ban),
    }
}

/// The narrowest prefix of a set that holds all of another.
fn holder<A: Address>(set: &BTreeSet<Prefix<A>>, prefix: Prefix<A>) -> Option<Cidr> {
    let mut holders = prefix.holders();
    holders.find(|holder| set.contains(holder)).map(Prefix::cidr)
}

/// Counts what two sorted lists do not share.
fn difference<A: Address>(before: &[Entry<A>], after: &[Entry<A>]) -> Changed {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let mut changed = Changed::default();
    loop {
        match (before.peek(), after.peek()) {
            (None, None) => return changed,
            (Some(old), Some(new)) if old.prefix == new.prefix => {
                before.next();
                after.next();
            }
            (Some(old), new) if new.is_none_or(|new| old.prefix < new.prefix) => {
                before.next();
                changed.removed += 1;
            }
            (_, _) => {
                after.next();
                changed.added += 1;
            }
        }
    }
}
