//! What is told of bans: lists, hits, decisions, dropped packets.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use weir_abi::Verdict;
use weir_abi::ban::Event;
use weir_bans::{Decision, Hits};
use weir_model::{Ban, BanOrigin, Cidr};

use crate::Error;
use crate::kernel::{Kernel, State};
use crate::types::{BanHits, ListStats, Seen, Sight, Stats};

impl Kernel {
    /// The bans of up to `count` prefixes behind `after`, IPv4 before IPv6, by prefix.
    #[must_use]
    pub fn bans_after(&self, after: Option<Cidr>, count: usize) -> Vec<BanHits> {
        let state = self.state();
        let prefixes = state.registry.prefixes_after(after, count);
        let bans = prefixes.into_iter().flat_map(|cidr| {
            let hits = state.hits(cidr);
            state.registry.bans_of(cidr).into_iter().map(move |ban| BanHits { ban, hits })
        });
        bans.collect()
    }

    /// How many prefixes are banned.
    #[must_use]
    pub fn ban_count(&self) -> usize {
        self.state().banned
    }

    /// Whether there is a list of this name.
    #[must_use]
    pub fn has_list(&self, name: &str) -> bool {
        self.state().registry.lists().iter().any(|list| list.name == name)
    }

    /// What happens to packets of an address, and what was counted for the ban that decides.
    #[must_use]
    pub fn test(&self, address: IpAddr) -> (Decision, Hits) {
        let state = self.state();
        let decision = state.registry.test(address);
        let decides = match &decision {
            Decision::Clean | Decision::Allowed { banned_by: None, .. } => None,
            Decision::Banned(ban)
            | Decision::WouldDrop(ban)
            | Decision::Allowed { banned_by: Some(ban), .. }
            | Decision::Protected { banned_by: ban, .. } => Some(ban.cidr),
        };
        (decision, decides.map_or_else(Hits::default, |cidr| state.hits(cidr)))
    }

    /// Whether nothing is dropped for a ban, but counted as if.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.state().dry_run
    }

    /// The allow list.
    #[must_use]
    pub fn allowed(&self) -> Vec<Cidr> {
        self.state().registry.allowed()
    }

    /// The bans as a whole.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.state();
        let mut by_list: HashMap<String, Hits> = HashMap::new();
        let mut count = |cidr: Cidr, hits: Hits| {
            for ban in state.registry.bans_of(cidr) {
                if let BanOrigin::List(name) = ban.origin {
                    let sum = by_list.entry(name).or_default();
                    *sum = sum.and(hits);
                }
            }
        };
        state.carried.iter().for_each(|(&cidr, &hits)| count(cidr, hits));
        state.tables.counted().into_iter().for_each(|(cidr, hits)| count(cidr, hits));
        let lists = state.registry.lists().into_iter().map(|list| ListStats {
            hits: by_list.get(&list.name).copied().unwrap_or_default(),
            name: list.name,
            prefixes: list.prefixes,
            created: list.created,
            dry_run: list.dry_run,
        });
        Stats {
            prefixes: state.banned,
            live: state.registry.live_count(),
            lists: lists.collect(),
            allowed: state.registry.allowed().len(),
            memory_bytes: state.tables.memory(),
            lines: state.tables.usage(),
            built_in: state.built_in,
            dry_run: state.dry_run,
        }
    }

    /// Has dropped packets told from now on; to be ended by [`Kernel::unwatch`] as often.
    pub fn watch(&self) {
        if self.watchers.fetch_add(1, Ordering::AcqRel) == 0 {
            // What is left of an earlier watch is of no interest.
            self.datapath.events();
            self.state().tables.set_watched(true);
        }
    }

    /// Ends a watch.
    pub fn unwatch(&self) {
        if self.watchers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.state().tables.set_watched(false);
        }
    }

    /// What was seen since the last look.
    ///
    /// # Errors
    /// The kernel does not let its maps be read.
    pub fn look(&self) -> Result<Sight, Error> {
        let events = self.datapath.events();
        let (limited, overflowed) = self.datapath.untold()?;
        let state = self.state();
        let now = (SystemTime::now(), monotonic());
        let packets = events.iter().filter_map(|event| state.seen(event, now)).collect();
        Ok(Sight { packets, limited, overflowed })
    }
}

impl State {
    fn hits(&self, cidr: Cidr) -> Hits {
        self.tables.hits(cidr).and(self.carried.get(&cidr).copied().unwrap_or_default())
    }

    /// An event, with what is known of the ban; `now` by both clocks.
    fn seen(&self, event: &Event, now: (SystemTime, Duration)) -> Option<Seen> {
        let verdict = Verdict::ALL.get(usize::from(event.verdict))?;
        let [high, low] = event.source.map(u64::from_be);
        let source = u128::from(high) << 64 | u128::from(low);
        let source = IpAddr::V6(Ipv6Addr::from(source)).to_canonical();
        let prefix = Cidr::new(source, event.length)?;
        let ago = now.1.saturating_sub(Duration::from_nanos(event.time));
        let ban: Option<Ban> = self.registry.bans_of(prefix).into_iter().next();
        Some(Seen {
            time: now.0.checked_sub(ago)?,
            source,
            verdict: verdict.name(),
            reason: verdict.reason(),
            prefix,
            ban,
            size: event.size,
        })
    }
}

/// The clock that the kernel stamps events with.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
