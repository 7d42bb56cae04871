//! Every ban with its origin, reason and end. Pure: what must change in the kernel is the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use weir_model::{Ban, BanOrigin, Cidr};

/// The bans in force, by prefix: one for each. An operator's word stands above a list's.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    bans: BTreeMap<Cidr, Entry>,
    ends: BTreeSet<(SystemTime, Cidr)>,
    v4: usize,
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

    /// Bans, or changes what is known of a ban.
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

    /// Adds to a list, or replaces what it held. Prefixes that an operator banned stay his.
    pub(crate) fn load(&mut self, list: &str, bans: Vec<Ban>, replace: bool) -> Difference {
        let origin = BanOrigin::List(list.to_owned());
        let before: Vec<Cidr> = if replace { self.of(&origin) } else { Vec::new() };
        let kept: BTreeSet<Cidr> =
            if replace { bans.iter().map(|ban| ban.cidr).collect() } else { BTreeSet::new() };
        let mine = |entry: &Entry| *entry.origin == BanOrigin::Operator;
        let bans = bans.into_iter();
        let bans = bans.filter(|ban| !self.bans.get(&ban.cidr).is_some_and(mine)).collect();
        let gone: Vec<_> = before.into_iter().filter(|cidr| !kept.contains(cidr)).collect();
        Difference { removed: self.remove(&gone).removed, added: self.add(bans).added }
    }

    /// Ends the bans of exactly these prefixes.
    pub(crate) fn remove(&mut self, cidrs: &[Cidr]) -> Difference {
        let mut difference = Difference::default();
        for &cidr in cidrs {
            if let Some(entry) = self.bans.remove(&cidr) {
                entry.expires.map(|end| self.ends.remove(&(end, cidr)));
                self.v4 -= usize::from(cidr.address().is_ipv4());
                difference.removed.push(cidr);
            }
        }
        difference
    }

    /// The prefixes whose bans have ended at `now`.
    pub(crate) fn ended(&self, now: SystemTime) -> Vec<Cidr> {
        self.ends.iter().take_while(|(end, _)| *end <= now).map(|(_, cidr)| *cidr).collect()
    }

    /// The most specific ban that an address is under.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Ban> {
        longest(address, |cidr| self.bans.contains_key(&cidr)).and_then(|cidr| self.get(cidr))
    }

    pub(crate) fn get(&self, cidr: Cidr) -> Option<Ban> {
        self.bans.get(&cidr).map(|entry| ban(cidr, entry))
    }

    pub(crate) fn all(&self) -> Vec<Ban> {
        self.bans.iter().map(|(&cidr, entry)| ban(cidr, entry)).collect()
    }

    fn of(&self, origin: &BanOrigin) -> Vec<Cidr> {
        let bans = self.bans.iter();
        bans.filter(|(_, entry)| *entry.origin == *origin).map(|(&cidr, _)| cidr).collect()
    }

    /// Whether the prefix was not banned before.
    fn insert(&mut self, cidr: Cidr, entry: Entry) -> bool {
        if let Some(end) = entry.expires {
            self.ends.insert((end, cidr));
        }
        let expires = entry.expires;
        match self.bans.insert(cidr, entry) {
            None => {
                self.v4 += usize::from(cidr.address().is_ipv4());
                true
            }
            Some(before) => {
                if let Some(end) = before.expires.filter(|_| before.expires != expires) {
                    self.ends.remove(&(end, cidr));
                }
                false
            }
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
}
