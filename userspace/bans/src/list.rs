//! A named list: prefixes sorted, each once, with a note that many of them share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use weir_model::Cidr;

use crate::prefix::{Address, Prefix};

/// A prefix of a list with the place of its note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<A> {
    pub(crate) prefix: Prefix<A>,
    pub(crate) note: u32,
}

/// What is known of prefixes of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Note {
    pub(crate) reason: Arc<str>,
    pub(crate) expires: Option<SystemTime>,
}

/// What is known of a list as a whole.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) created: SystemTime,
    pub(crate) dry_run: bool,
    pub(crate) notes: Vec<Note>,
}

/// A list as it was read; [`crate::Registry::put_list`] takes it.
#[derive(Debug)]
pub struct List {
    pub(crate) about: About,
    pub(crate) v4: Vec<Entry<u32>>,
    pub(crate) v6: Vec<Entry<u128>>,
    known: HashMap<Note, u32>,
    last: Option<u32>,
}

/// What was merged while a list was sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Prefixes that stood there before.
    pub duplicates: usize,
    /// Prefixes inside wider ones that say the same.
    pub covered: usize,
}

impl List {
    /// A list without prefixes.
    #[must_use]
    pub fn new(created: SystemTime, dry_run: bool) -> Self {
        let about = About { created, dry_run, notes: Vec::new() };
        Self { about, v4: Vec::new(), v6: Vec::new(), known: HashMap::new(), last: None }
    }

    /// Makes room for so many prefixes of IPv4.
    pub fn reserve(&mut self, count: usize) {
        self.v4.reserve(count);
    }

    /// Adds a prefix.
    pub fn push(&mut self, cidr: Cidr, reason: &str, expires: Option<SystemTime>) {
        let note = self.note(reason, expires);
        match (Prefix::<u32>::of(cidr), Prefix::<u128>::of(cidr)) {
            (Some(prefix), _) => self.v4.push(Entry { prefix, note }),
            (None, Some(prefix)) => self.v6.push(Entry { prefix, note }),
            (None, None) => {}
        }
    }

    /// How many prefixes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sorts, and merges what is there more than once.
    pub fn merge(&mut self) -> Merged {
        let (v4, v6) = (merge(&mut self.v4), merge(&mut self.v6));
        Merged { duplicates: v4.duplicates + v6.duplicates, covered: v4.covered + v6.covered }
    }

    /// The first prefix that is every address of its family.
    #[must_use]
    pub fn everything(&self) -> Option<Cidr> {
        let v4 = self.v4.iter().find(|entry| entry.prefix.length == 0);
        let v6 = || self.v6.iter().find(|entry| entry.prefix.length == 0);
        v4.map(|entry| entry.prefix.cidr()).or_else(|| v6().map(|entry| entry.prefix.cidr()))
    }

    /// The first prefix that holds an address.
    #[must_use]
    pub fn holding(&self, address: IpAddr) -> Option<Cidr> {
        let v4 = self.v4.iter().map(|entry| entry.prefix.cidr());
        let mut all = v4.chain(self.v6.iter().map(|entry| entry.prefix.cidr()));
        all.find(|cidr| cidr.contains(address))
    }

    fn note(&mut self, reason: &str, expires: Option<SystemTime>) -> u32 {
        let notes = &mut self.about.notes;
        if let Some(last) = self.last
            && let Some(note) = notes.get(last as usize)
            && *note.reason == *reason
            && note.expires == expires
        {
            return last;
        }
        let note = Note { reason: reason.into(), expires };
        let place = *self.known.entry(note.clone()).or_insert_with(|| {
            notes.push(note);
            // More notes than bans, and more bans than 2^32, there are not.
            u32::try_from(notes.len() - 1).unwrap_or(u32::MAX)
        });
        self.last = Some(place);
        place
    }
}

fn merge<A: Address>(entries: &mut Vec<Entry<A>>) -> Merged {
    let before = entries.len();
    entries.sort_unstable_by_key(|entry| (entry.prefix, entry.note));
    entries.dedup_by_key(|entry| entry.prefix);
    let unique = entries.len();
    let mut holders: Vec<Entry<A>> = Vec::new();
    entries.retain(|entry| {
        while holders.last().is_some_and(|holder| !holder.prefix.holds(entry.prefix)) {
            holders.pop();
        }
        let says_more = holders.last().is_none_or(|holder| holder.note != entry.note);
        if says_more {
            holders.push(*entry);
        }
        says_more
    });
    Merged { duplicates: before - unique, covered: unique - entries.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_and_what_wider_prefixes_say_already_are_merged() {
        let mut list = List::new(SystemTime::UNIX_EPOCH, false);
        for (cidr, reason) in [
            ("192.0.2.7", ""),
            ("192.0.2.0/24", ""),
            ("192.0.2.7", ""),
            ("192.0.2.8", "worse"),
            ("192.0.3.0/24", ""),
            ("2001:db8::1", ""),
            ("2001:db8::/32", ""),
            ("::ffff:192.0.3.0/120", ""),
        ] {
            list.push(cidr.parse().unwrap(), reason, None);
        }
        assert_eq!(list.merge(), Merged { duplicates: 2, covered: 2 });
        let v4: Vec<_> = list.v4.iter().map(|entry| entry.prefix.cidr().to_string()).collect();
        assert_eq!(v4, ["192.0.2.0/24", "192.0.2.8/32", "192.0.3.0/24"]);
        assert_eq!(list.v6.len(), 1);
    }
}
