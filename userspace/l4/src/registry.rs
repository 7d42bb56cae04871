//! Every ban with its origin, reason and end. Pure: what must change in the kernel is the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use weir_model::{Ban, BanOrigin, Cidr};

/// The bans in force, by prefix. A prefix may be banned by several, and is until the last of them
/// lets go; the operator's word is shown before a list's.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    bans: BTreeMap<Cidr, Held>,
    ends: BTreeSet<(SystemTime, Cidr)>,
    v4: usize,
}

/// The bans of one prefix, at most one an origin.
#[derive(Debug)]
struct Held {
    /// The operator's, if he has one.
    first: Entry,
    /// Seldom any: no allocation without.
    others: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Shared by all bans of a list.
    origin: Arc<BanOrigin>,
    reason: Arc<str>,
    expires: Option<SystemTime>,
}

/// What must change in the kernel so that it agrees with the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) added: Vec<Cidr>,
    pub(crate) removed: Vec<Cidr>,
}

impl Registry {
    pub(crate) fn len(&self) -> usize {
        self.bans.len()
    }

    /// Prefixes of IPv4 and of IPv6.
    pub(crate) fn by_family(&self) -> (usize, usize) {
        (self.v4, self.bans.len() - self.v4)
    }

    pub(crate) fn contains(&self, cidr: Cidr) -> bool {
        self.bans.contains_key(&cidr)
    }

    /// Bans, or changes what is known of a ban of the same origin.
    pub(crate) fn add(&mut self, bans: Vec<Ban>) -> Difference {
        let mut difference = Difference::default();
        let mut last: Option<Entry> = None;
        for Ban { cidr, origin, reason, expires } in bans {
            let entry = shared(&mut last, origin, reason, expires);
            if self.insert(cidr, entry) {
                difference.added.push(cidr);
            }
        }
        difference
    }

    /// Adds to a list, or replaces what it held. What others ban as well stays banned.
    pub(crate) fn load(&mut self, list: &str, bans: Vec<Ban>, replace: bool) -> Difference {
        let origin = BanOrigin::List(list.to_owned());
        let before: Vec<Cidr> = if replace { self.of(&origin) } else { Vec::new() };
        let kept: BTreeSet<Cidr> =
            if replace { bans.iter().map(|ban| ban.cidr).collect() } else { BTreeSet::new() };
        let added = self.add(bans).added;
        let gone = before.into_iter().filter(|cidr| !kept.contains(cidr));
        let removed = gone.filter(|&cidr| self.retain(cidr, |entry| *entry.origin != origin));
        Difference { removed: removed.collect(), added }
    }

    /// Ends the bans of exactly these prefixes, whoever asked for them.
    pub(crate) fn remove(&mut self, cidrs: &[Cidr]) -> Difference {
        let removed = cidrs.iter().copied().filter(|&cidr| self.retain(cidr, |_| false));
        Difference { added: Vec::new(), removed: removed.collect() }
    }

    /// The prefixes whose every ban has ended at `now`. Where others still hold one, only the ended
    /// bans are forgotten.
    pub(crate) fn ended(&mut self, now: SystemTime) -> Vec<Cidr> {
        let due = self.ends.iter().take_while(|(end, _)| *end <= now).map(|(_, cidr)| *cidr);
        let due: BTreeSet<Cidr> = due.collect();
        let lasts = |entry: &Entry| entry.expires.is_none_or(|end| end > now);
        let (going_on, ended): (Vec<_>, Vec<_>) = due
            .into_iter()
            .partition(|cidr| self.bans.get(cidr).is_some_and(|held| held.entries().any(lasts)));
        for cidr in going_on {
            self.retain(cidr, lasts);
        }
        ended
    }

    /// The most specific ban that an address is under.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Ban> {
        longest(address, |cidr| self.bans.contains_key(&cidr)).and_then(|cidr| self.get(cidr))
    }

    pub(crate) fn get(&self, cidr: Cidr) -> Option<Ban> {
        self.bans.get(&cidr).map(|held| ban(cidr, &held.first))
    }

    pub(crate) fn all(&self) -> Vec<Ban> {
        self.bans.iter().map(|(&cidr, held)| ban(cidr, &held.first)).collect()
    }

    fn of(&self, origin: &BanOrigin) -> Vec<Cidr> {
        let is_its = |entry: &Entry| *entry.origin == *origin;
        let bans = self.bans.iter().filter(|(_, held)| held.entries().any(is_its));
        bans.map(|(&cidr, _)| cidr).collect()
    }

    /// Whether the prefix was not banned before.
    fn insert(&mut self, cidr: Cidr, entry: Entry) -> bool {
        let Some(mut held) = self.take(cidr) else {
            self.put(cidr, Held { first: entry, others: Vec::new() });
            return true;
        };
        held.set(entry);
        self.put(cidr, held);
        false
    }

    /// Keeps only some bans of a prefix; whether it was banned and is no more.
    fn retain(&mut self, cidr: Cidr, keep: impl Fn(&Entry) -> bool) -> bool {
        let Some(Held { first, others }) = self.take(cidr) else { return false };
        let mut kept = std::iter::once(first).chain(others).filter(keep);
        let Some(first) = kept.next() else { return true };
        let others = kept.collect();
        self.put(cidr, Held { first, others });
        false
    }

    fn put(&mut self, cidr: Cidr, held: Held) {
        self.ends.extend(held.entries().filter_map(|entry| Some((entry.expires?, cidr))));
        self.v4 += usize::from(cidr.address().is_ipv4());
        self.bans.insert(cidr, held);
    }

    fn take(&mut self, cidr: Cidr) -> Option<Held> {
        let held = self.bans.remove(&cidr)?;
        for end in held.entries().filter_map(|entry| entry.expires) {
            self.ends.remove(&(end, cidr));
        }
        self.v4 -= usize::from(cidr.address().is_ipv4());
        Some(held)
    }
}

impl Held {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Adds a ban, or replaces that of the same origin.
    fn set(&mut self, entry: Entry) {
        let entries = std::iter::once(&mut self.first).chain(&mut self.others);
        for known in entries {
            if known.origin == entry.origin {
                *known = entry;
                return;
            }
        }
        if *entry.origin == BanOrigin::Operator {
            self.others.insert(0, std::mem::replace(&mut self.first, entry));
        } else {
            self.others.push(entry);
        }
    }
}

/// The longest prefix around `address` that `contains`.
pub(crate) fn longest(address: IpAddr, contains: impl Fn(Cidr) -> bool) -> Option<Cidr> {
    let longest = Cidr::host(address);
    let lengths = (0..=longest.length()).rev();
    lengths.filter_map(|length| Cidr::new(longest.address(), length)).find(|&cidr| contains(cidr))
}

/// An entry that shares its texts with the last one where they are equal: a list of a million
/// prefixes names itself once.
fn shared(
    last: &mut Option<Entry>,
    origin: BanOrigin,
    reason: String,
    expires: Option<SystemTime>,
) -> Entry {
    let entry = match last.take() {
        Some(last) if *last.origin == origin && *last.reason == *reason => {
            Entry { expires, ..last }
        }
        _ => Entry { origin: Arc::new(origin), reason: reason.into(), expires },
    };
    *last = Some(entry.clone());
    entry
}

fn ban(cidr: Cidr, entry: &Entry) -> Ban {
    Ban {
        cidr,
        origin: (*entry.origin).clone(),
        reason: entry.reason.to_string(),
        expires: entry.expires,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn bans(origin: &BanOrigin, cidrs: &[&str]) -> Vec<Ban> {
        let ban = |text: &&str| Ban {
            cidr: cidr(text),
            origin: origin.clone(),
            reason: String::new(),
            expires: None,
        };
        cidrs.iter().map(ban).collect()
    }

    #[test]
    fn a_replaced_list_changes_only_what_differs() {
        let (operator, list) = (BanOrigin::Operator, BanOrigin::List("a".to_owned()));
        let mut registry = Registry::default();
        registry.add(bans(&operator, &["192.0.2.1"]));
        let loaded =
            registry.load("a", bans(&list, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]), true);
        assert_eq!(loaded.added, [cidr("192.0.2.2"), cidr("192.0.2.3")]);
        let replaced = registry.load("a", bans(&list, &["192.0.2.3", "2001:db8::/32"]), true);
        let expected =
            Difference { added: vec![cidr("2001:db8::/32")], removed: vec![cidr("192.0.2.2")] };
        assert_eq!(replaced, expected);
        assert_eq!(registry.find("192.0.2.1".parse().unwrap()).unwrap().origin, operator);
        assert_eq!(registry.by_family(), (2, 1));
        let added = registry.load("a", bans(&list, &["192.0.2.9"]), false);
        assert_eq!(added, Difference { added: vec![cidr("192.0.2.9")], removed: vec![] });
    }

    #[test]
    fn the_most_specific_ban_is_found() {
        let mut registry = Registry::default();
        registry.add(bans(&BanOrigin::Operator, &["192.0.2.0/24", "192.0.2.128/25", "::/1"]));
        for (address, expected) in [
            ("192.0.2.1", Some("192.0.2.0/24")),
            ("192.0.2.200", Some("192.0.2.128/25")),
            ("192.0.3.1", None),
            ("2001:db8::1", Some("::/1")),
            ("ff02::1", None),
        ] {
            let found = registry.find(address.parse().unwrap()).map(|ban| ban.cidr);
            assert_eq!(found, expected.map(cidr), "{address}");
        }
    }

    #[test]
    fn bans_end_at_their_time_and_a_new_end_replaces_the_old() {
        let start = SystemTime::UNIX_EPOCH;
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut registry = Registry::default();
        let mut ban = bans(&BanOrigin::Operator, &["192.0.2.1"]).remove(0);
        ban.expires = Some(at(10));
        registry.add(vec![ban.clone()]);
        assert_eq!(registry.ended(at(9)), []);
        assert_eq!(registry.ended(at(10)), [ban.cidr]);
        ban.expires = Some(at(20));
        registry.add(vec![ban.clone()]);
        assert_eq!(registry.ended(at(10)), []);
        registry.remove(&[ban.cidr]);
        assert_eq!(registry.ended(at(30)), []);
        assert_eq!(registry.len(), 0);
    }

    #[test]
    fn a_prefix_stays_banned_until_the_last_lets_go() {
        let (one, two) = (BanOrigin::List("one".to_owned()), BanOrigin::List("two".to_owned()));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut registry = Registry::default();
        let prefix = cidr("192.0.2.0/24");
        registry.load("one", bans(&one, &["192.0.2.0/24"]), true);
        registry.load("two", bans(&two, &["192.0.2.0/24"]), true);
        let mut for_a_while = bans(&BanOrigin::Operator, &["192.0.2.0/24"]);
        for_a_while[0].expires = Some(at(10));
        assert_eq!(registry.add(for_a_while), Difference::default());
        assert_eq!(registry.get(prefix).unwrap().origin, BanOrigin::Operator);
        assert_eq!(registry.ended(at(10)), []);
        assert_eq!(registry.get(prefix).unwrap().origin, one);
        assert_eq!(registry.load("one", Vec::new(), true), Difference::default());
        assert_eq!(registry.get(prefix).unwrap().origin, two);
        assert_eq!(registry.load("two", Vec::new(), true).removed, [prefix]);
        assert_eq!((registry.len(), registry.by_family()), (0, (0, 0)));
    }
}
