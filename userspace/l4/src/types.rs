//! What the kernel side tells others.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use weir_bans::{Changed, Hits, Merged};
use weir_model::{Ban, Cidr};

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

/// What loading a list did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What the list gained and lost.
    pub changed: Changed,
    /// What was merged in it.
    pub merged: Merged,
}

/// A ban with what was counted for its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanHits {
    /// The ban.
    pub ban: Ban,
    /// What was dropped, or would have been, by this prefix; shared by all bans of it.
    pub hits: Hits,
}

/// The bans as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Prefixes with a ban.
    pub prefixes: usize,
    /// Of them made one by one.
    pub live: usize,
    /// The lists, by name.
    pub lists: Vec<ListStats>,
    /// Prefixes that no ban touches.
    pub allowed: usize,
    /// Bytes of kernel memory of the tables.
    pub memory_bytes: u64,
    /// Of the table's lines: in use, and in all.
    pub lines: (u32, u32),
    /// How long the table in force took to build and publish.
    pub built_in: Duration,
    /// Nothing is dropped for a ban, but counted as if.
    pub dry_run: bool,
}

/// A list as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListStats {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: usize,
    /// When it was loaded.
    pub created: SystemTime,
    /// Its packets are counted, but not dropped.
    pub dry_run: bool,
    /// What was counted for its prefixes.
    pub hits: Hits,
}

/// A packet that was dropped, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub time: SystemTime,
    /// Who sent it.
    pub source: IpAddr,
    /// `drop` or `pass`.
    pub verdict: &'static str,
    /// `banned` or `would_drop`.
    pub reason: &'static str,
    /// The prefix that decided.
    pub prefix: Cidr,
    /// Its ban; `None` if it has ended since.
    pub ban: Option<Ban>,
    /// Bytes of the packet.
    pub size: u32,
}

/// What was seen since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The packets that were told of.
    pub packets: Vec<Seen>,
    /// Since the start: packets not told of, since there were more than the rate allows.
    pub limited: u64,
    /// Since the start: packets not told of, since nobody read fast enough.
    pub overflowed: u64,
}
