//! Everything that is said of the sources of one family.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{Ban, BanOrigin};

use crate::list::{About, Entry};
use crate::prefix::{Address, Prefix};
use crate::rule::{Banned, Rule};

/// What is known of lists, by name.
pub(crate) type Abouts = BTreeMap<String, About>;

/// The sources of one family.
#[derive(Debug)]
pub(crate) struct Family<A> {
    /// Bans made one by one; those of a prefix by rank of who made them.
    pub(crate) live: BTreeMap<Prefix<A>, Vec<Ban>>,
    /// Sorted, each prefix once.
    pub(crate) lists: BTreeMap<String, Vec<Entry<A>>>,
    pub(crate) allowed: BTreeSet<Prefix<A>>,
    pub(crate) protected: BTreeSet<Prefix<A>>,
}

impl<A> Default for Family<A> {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            lists: BTreeMap::new(),
            allowed: BTreeSet::new(),
            protected: BTreeSet::new(),
        }
    }
}

impl<A: Address> Family<A> {
    /// How many prefixes bans name, those of several counted as often.
    pub(crate) fn named(&self) -> usize {
        self.live.len() + self.lists.values().map(Vec::len).sum::<usize>()
    }

    /// The rule of every prefix, sorted.
    pub(crate) fn rules(&self, abouts: &Abouts) -> Vec<Rule<A>> {
        let mut rules = Vec::with_capacity(self.named() + self.allowed.len());
        for (name, entries) in &self.lists {
            let banned = level(abouts, name);
            rules.extend(entries.iter().map(|entry| of_list(entry.prefix, banned)));
        }
        rules.extend(self.live.iter().map(|(&prefix, bans)| of_live(prefix, bans)));
        rules.extend(self.allowed.iter().map(|&prefix| of_allowed(prefix)));
        rules.extend(self.protected.iter().map(|&prefix| of_protected(prefix)));
        joined(rules)
    }

    /// The rules that say anything of an address in `within`, sorted: those inside and those around.
    pub(crate) fn rules_of(&self, within: Prefix<A>, abouts: &Abouts) -> Vec<Rule<A>> {
        let (first, last) = (within.start, within.last());
        let mut rules = Vec::new();
        for (name, entries) in &self.lists {
            let banned = level(abouts, name);
            let from = entries.partition_point(|entry| entry.prefix.start < first);
            let inside = entries.get(from..).unwrap_or_default().iter();
            let inside = inside.take_while(|entry| entry.prefix.start <= last);
            rules.extend(inside.map(|entry| of_list(entry.prefix, banned)));
        }
        let range = Prefix { start: first, length: 0 }..=Prefix { start: last, length: A::BITS };
        rules.extend(self.live.range(range.clone()).map(|(&prefix, bans)| of_live(prefix, bans)));
        rules.extend(self.allowed.range(range.clone()).map(|&prefix| of_allowed(prefix)));
        rules.extend(self.protected.range(range).map(|&prefix| of_protected(prefix)));
        for holder in within.holders().filter(|holder| holder.start < first) {
            rules.extend(self.rule(holder, abouts));
        }
        joined(rules)
    }

    /// What is said of exactly this prefix.
    pub(crate) fn rule(&self, prefix: Prefix<A>, abouts: &Abouts) -> Option<Rule<A>> {
        let mut rules: Vec<_> = self
            .lists
            .iter()
            .filter(|(_, entries)| at(entries, prefix).is_some())
            .map(|(name, _)| of_list(prefix, level(abouts, name)))
            .collect();
        rules.extend(self.live.get(&prefix).map(|bans| of_live(prefix, bans)));
        rules.extend(self.allowed.get(&prefix).map(|&prefix| of_allowed(prefix)));
        rules.extend(self.protected.get(&prefix).map(|&prefix| of_protected(prefix)));
        joined(rules).pop()
    }

    /// The bans of exactly this prefix, those made live first.
    pub(crate) fn bans_of(&self, prefix: Prefix<A>, abouts: &Abouts) -> Vec<Ban> {
        let mut bans = self.live.get(&prefix).cloned().unwrap_or_default();
        for (name, entries) in &self.lists {
            let (Some(entry), Some(about)) = (at(entries, prefix), abouts.get(name)) else {
                continue;
            };
            bans.push(ban_of(name, about, entry));
        }
        bans
    }

    /// Up to `count` banned prefixes behind `after`, sorted.
    pub(crate) fn after(&self, after: Option<Prefix<A>>, count: usize) -> Vec<Prefix<A>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = after.map_or(Unbounded, Excluded);
        let mut found: Vec<_> =
            self.live.range((behind, Unbounded)).map(|(&prefix, _)| prefix).take(count).collect();
        for entries in self.lists.values() {
            let from = entries.partition_point(|entry| Some(entry.prefix) <= after);
            let rest = entries.get(from..).unwrap_or_default();
            found.extend(rest.iter().take(count).map(|entry| entry.prefix));
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(count);
        found
    }
}

/// A ban as a list says it.
pub(crate) fn ban_of<A: Address>(name: &str, about: &About, entry: &Entry<A>) -> Ban {
    let note = about.notes.get(entry.note as usize);
    Ban {
        cidr: entry.prefix.cidr(),
        origin: BanOrigin::List(name.to_owned()),
        reason: note.map_or(String::new(), |note| note.reason.to_string()),
        created: about.created,
        expires: note.and_then(|note| note.expires),
        dry_run: about.dry_run,
        forced: false,
    }
}

/// The entry of exactly this prefix.
pub(crate) fn at<A: Address>(entries: &[Entry<A>], prefix: Prefix<A>) -> Option<&Entry<A>> {
    let place = entries.binary_search_by_key(&prefix, |entry| entry.prefix).ok()?;
    entries.get(place)
}

fn level(abouts: &Abouts, name: &str) -> Banned {
    match abouts.get(name) {
        Some(about) if about.dry_run => Banned::DryRun,
        _ => Banned::Yes,
    }
}

/// How much one ban bans.
pub(crate) fn level_of(ban: &Ban) -> Banned {
    match (ban.dry_run, ban.forced) {
        (true, _) => Banned::DryRun,
        (false, true) => Banned::Forced,
        (false, false) => Banned::Yes,
    }
}

fn of_list<A: Address>(prefix: Prefix<A>, banned: Banned) -> Rule<A> {
    Rule { banned, ..Rule::new(prefix) }
}

fn of_live<A: Address>(prefix: Prefix<A>, bans: &[Ban]) -> Rule<A> {
    let banned = bans.iter().map(level_of).max().unwrap_or_default();
    Rule { banned, ..Rule::new(prefix) }
}

fn of_allowed<A: Address>(prefix: Prefix<A>) -> Rule<A> {
    Rule { allowed: true, ..Rule::new(prefix) }
}

fn of_protected<A: Address>(prefix: Prefix<A>) -> Rule<A> {
    Rule { protected: true, ..Rule::new(prefix) }
}

/// Sorted, and what several say of a prefix as one rule.
fn joined<A: Address>(mut rules: Vec<Rule<A>>) -> Vec<Rule<A>> {
    // Stable: it makes use of the runs that are sorted already.
    rules.sort_by_key(|rule| rule.prefix);
    rules.dedup_by(|next, kept| {
        let same = next.prefix == kept.prefix;
        if same {
            kept.join(next);
        }
        same
    });
    rules
}
