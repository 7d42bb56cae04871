//! What becomes of a packet, and why. The reason is the counter.

/// The end of a packet's way.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the kernel's network stack.
    Pass(Pass),
    /// Gone.
    Drop(Drop),
}

/// Why a packet was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Pass {
    /// Neither IPv4 nor IPv6: ARP and the like.
    NotIp = 0,
    /// No ban touches its source.
    Clean = 1,
    /// A ban would, but its source is on the allow list.
    Allowed = 2,
    /// No ban touches its source, but more headers stand before its transport than we read.
    Unparsed = 3,
    /// A ban would drop it, but it, or every ban, is tried without effect.
    WouldDrop = 4,
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Drop {
    /// Its source is banned.
    Banned = 5,
    /// It is shorter than its headers say, or they contradict themselves.
    Malformed = 6,
}

impl Verdict {
    /// Every verdict, in the order of [`Verdict::index`].
    pub const ALL: [Self; 7] = [
        Self::Pass(Pass::NotIp),
        Self::Pass(Pass::Clean),
        Self::Pass(Pass::Allowed),
        Self::Pass(Pass::Unparsed),
        Self::Pass(Pass::WouldDrop),
        Self::Drop(Drop::Banned),
        Self::Drop(Drop::Malformed),
    ];

    /// The place of its counter.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Pass(reason) => reason as u32,
            Self::Drop(reason) => reason as u32,
        }
    }

    /// `pass` or `drop`: the `verdict` label of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Drop(_) => "drop",
        }
    }

    /// The `reason` label of metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Pass(Pass::NotIp) => "not_ip",
            Self::Pass(Pass::Clean) => "clean",
            Self::Pass(Pass::Allowed) => "allowed",
            Self::Pass(Pass::Unparsed) => "unparsed",
            Self::Pass(Pass::WouldDrop) => "would_drop",
            Self::Drop(Drop::Banned) => "banned",
            Self::Drop(Drop::Malformed) => "malformed",
        }
    }
}

/// What one CPU counted for one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_own_counter() {
        for (index, verdict) in (0..).zip(Verdict::ALL) {
            assert_eq!(verdict.index(), index, "{verdict:?}");
        }
    }
}
