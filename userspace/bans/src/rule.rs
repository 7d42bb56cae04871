//! What all lists together come to, prefix by prefix; and run by run of addresses.

use weir_abi::ban::{Cell, Kind};

use crate::prefix::{Address, Prefix};

/// How much a prefix is banned; the later, the more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Banned {
    /// Not at all.
    #[default]
    No,
    /// Counted, not dropped.
    DryRun,
    /// Dropped.
    Yes,
    /// Dropped even where it is protected.
    Forced,
}

/// What is said of exactly one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<A> {
    /// Of which sources.
    pub prefix: Prefix<A>,
    /// No ban touches it.
    pub allowed: bool,
    /// Only a forced ban touches it.
    pub protected: bool,
    /// What bans say.
    pub banned: Banned,
    /// Where its packets are counted; 0 until it has a record.
    pub record: u32,
}

impl<A: Address> Rule<A> {
    pub(crate) fn new(prefix: Prefix<A>) -> Self {
        Self { prefix, allowed: false, protected: false, banned: Banned::No, record: 0 }
    }

    /// Takes in what another source says of the same prefix.
    pub(crate) fn join(&mut self, other: &Self) {
        self.allowed |= other.allowed;
        self.protected |= other.protected;
        self.banned = self.banned.max(other.banned);
    }
}

/// What holds at a place of the sweep: everything that the prefixes around it say.
#[derive(Clone, Copy, Default)]
struct Standing {
    allowed: bool,
    protected: bool,
    dry_run: u32,
    enforced: u32,
    forced: u32,
}

impl Standing {
    fn inside<A>(mut self, rule: &Rule<A>) -> Self {
        self.allowed |= rule.allowed;
        self.protected |= rule.protected;
        match rule.banned {
            Banned::No => {}
            Banned::DryRun => self.dry_run = rule.record,
            Banned::Yes => self.enforced = rule.record,
            Banned::Forced => (self.forced, self.enforced) = (rule.record, rule.record),
        }
        self
    }

    /// The most specific ban decides, one that drops before one that is tried; allowed stands above.
    fn cell(self) -> Cell {
        let ban = if self.enforced == 0 { self.dry_run } else { self.enforced };
        Cell::new(if ban == 0 {
            Kind::Clean
        } else if self.allowed {
            Kind::Allowed(ban)
        } else if self.protected {
            if self.forced == 0 { Kind::Allowed(ban) } else { Kind::Ban(self.forced) }
        } else if self.enforced == 0 {
            Kind::DryRun(ban)
        } else {
            Kind::Ban(ban)
        })
    }
}

/// Cuts the address space into runs with one decision; tells each that is not clean, in order. The
/// rules are sorted, each prefix once.
pub(crate) fn runs(rules: &[Rule<u32>], mut tell: impl FnMut(u32, u32, Cell)) {
    let mut open: Vec<(u32, Standing)> = Vec::with_capacity(33);
    // The first address that was not told of yet; 64 bits, for the one behind the last.
    let mut at = 0u64;
    let mut tell_until = |at: &mut u64, end: u64, standing: Standing| {
        let cell = standing.cell();
        if end > *at && cell != Cell::CLEAN {
            // Both are below 2^32: `end` is at most one past the last address.
            tell(*at as u32, (end - 1) as u32, cell);
        }
        *at = (*at).max(end);
    };
    for rule in rules {
        let start = u64::from(rule.prefix.start);
        while let Some(&(last, standing)) = open.last()
            && u64::from(last) < start
        {
            tell_until(&mut at, u64::from(last) + 1, standing);
            open.pop();
        }
        let around = open.last().map_or_else(Standing::default, |(_, standing)| *standing);
        tell_until(&mut at, start, around);
        open.push((rule.prefix.last(), around.inside(rule)));
    }
    while let Some((last, standing)) = open.pop() {
        tell_until(&mut at, u64::from(last) + 1, standing);
    }
}
