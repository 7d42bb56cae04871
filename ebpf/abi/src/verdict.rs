//! What becomes of a packet, and why. The reason is the counter.

/// The end of a packet's way.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the kernel's network stack.
    Pass(Pass),
    /// Gone.
    Drop(Drop),
    /// To a backend, or from one to a client.
    Send(Send),
    /// Answered here.
    Reply(Reply),
}

macro_rules! reasons {
    ($(#[$about:meta])* $kind:ident { $($(#[$doc:meta])* $reason:ident = $index:literal, $name:literal;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $kind {
            $($(#[$doc])* $reason = $index,)*
        }

        impl $kind {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// The word for it in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// Why a packet was passed on.
    Pass {
        /// Neither IPv4 nor IPv6: ARP and the like.
        NotIp = 0, "not_ip";
        /// No ban touches its source, and it is for no VIP.
        Clean = 1, "clean";
        /// A ban would, but its source is on the allow list.
        Allowed = 2, "allowed";
        /// No ban touches its source, but more headers stand before its transport than we read.
        Unparsed = 3, "unparsed";
        /// A ban would drop it, but it, or every ban, is tried without effect.
        WouldDrop = 4, "would_drop";
        /// For a VIP that is served on this host.
        Local = 7, "local";
    }
}

reasons! {
    /// Why a packet was dropped.
    Drop {
        /// Its source is banned.
        Banned = 5, "banned";
        /// It is shorter than its headers say, or they contradict themselves.
        Malformed = 6, "malformed";
        /// For a VIP without a backend that could take it.
        NoBackend = 8, "no_backend";
        /// Its time to live is over.
        TtlExceeded = 9, "ttl_exceeded";
        /// The kernel knows no way to the backend, or nobody there answers its questions.
        NoRoute = 10, "no_route";
        /// A later fragment whose first one was not seen.
        OrphanFragment = 11, "orphan_fragment";
        /// An ICMP error about a packet that its receiver cannot have sent.
        IcmpMismatch = 12, "icmp_mismatch";
        /// Our own encapsulation, come back.
        Loop = 13, "loop";
        /// The driver has no room for more headers before the packet.
        NoRoom = 14, "no_room";
        /// It pretends to come from the address that it is for.
        Spoofed = 15, "spoofed";
        /// To a listener under attack, of no connection and without a cookie of ours.
        BadAck = 25, "bad_ack";
        /// A reset or an end of no connection, and too many of them.
        StrayReset = 26, "stray_reset";
        /// A SYN that cannot be answered with a cookie: IP options, a header that contradicts itself.
        OddSyn = 27, "odd_syn";
        /// A SYN of a source or network that sends too many.
        SynLimit = 28, "syn_limit";
        /// A packet of a source that sends too many.
        SourceLimit = 29, "source_limit";
        /// A SYN more than its VIP's backends are to get.
        VipLimit = 30, "vip_limit";
        /// The answer to a challenge: its source is known now.
        Proof = 31, "proof";
        /// TCP flags that do not go together.
        TcpFlags = 32, "tcp_flags";
        /// UDP from a port of services that reflect.
        UdpReflection = 33, "udp_reflection";
        /// A fragment, and too many of them.
        FragmentFlood = 34, "fragment_flood";
    }
}

reasons! {
    /// How a packet was sent on.
    Send {
        /// Inside another IP packet.
        Ipip = 16, "ipip";
        /// Inside UDP.
        Gue = 17, "gue";
        /// As it is, to another Ethernet address.
        L2 = 18, "l2";
        /// With another destination.
        Nat = 19, "nat";
        /// From a backend to its client, with the VIP as source.
        NatReturn = 20, "nat_return";
    }
}

reasons! {
    /// What was answered.
    Reply {
        /// A ping of a VIP.
        Pong = 21, "pong";
        /// A packet that does not fit once it is encapsulated: the sender is told what fits.
        TooBig = 22, "too_big";
        /// A SYN, with a cookie that the kernel will know.
        SynCookie = 23, "syn_cookie";
        /// A SYN, with a question that only its sender can answer.
        Challenge = 24, "challenge";
    }
}

impl Verdict {
    /// How many there are.
    pub const COUNT: u32 = 35;

    /// Every verdict, in the order of [`Verdict::index`].
    pub const ALL: [Self; Self::COUNT as usize] = Self::all();

    const fn all() -> [Self; Self::COUNT as usize] {
        let mut all = [Self::Pass(Pass::NotIp); Self::COUNT as usize];
        let mut at = 0;
        while at < Self::COUNT as usize {
            // No list of reasons is longer than all of them together.
            if at < Pass::ALL.len() {
                all[Pass::ALL[at] as usize] = Self::Pass(Pass::ALL[at]);
            }
            if at < Drop::ALL.len() {
                all[Drop::ALL[at] as usize] = Self::Drop(Drop::ALL[at]);
            }
            if at < Send::ALL.len() {
                all[Send::ALL[at] as usize] = Self::Send(Send::ALL[at]);
            }
            if at < Reply::ALL.len() {
                all[Reply::ALL[at] as usize] = Self::Reply(Reply::ALL[at]);
            }
            at += 1;
        }
        all
    }

    /// The place of its counter.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Pass(reason) => reason as u32,
            Self::Drop(reason) => reason as u32,
            Self::Send(reason) => reason as u32,
            Self::Reply(reason) => reason as u32,
        }
    }

    /// `pass`, `drop`, `send` or `reply`: the `verdict` label of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Drop(_) => "drop",
            Self::Send(_) => "send",
            Self::Reply(_) => "reply",
        }
    }

    /// The `reason` label of metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Pass(reason) => reason.name(),
            Self::Drop(reason) => reason.name(),
            Self::Send(reason) => reason.name(),
            Self::Reply(reason) => reason.name(),
        }
    }
}

/// The end of a packet's way as one number, which a function that the verifier looks at by itself may
/// answer: the verdict and, for what is sent, the interface.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End(pub u64);

impl End {
    /// No end yet: it is nothing to the stage that says so.
    pub const GO_ON: Self = Self(u64::MAX);
    /// No end yet: it may be for a VIP.
    pub const SERVE: Self = Self(u64::MAX - 1);
    /// No end yet: it is on its way to a backend.
    pub const FORWARD: Self = Self(u64::MAX - 2);
    /// No end yet: with it a connection begins, though it is no SYN.
    pub const BEGIN: Self = Self(u64::MAX - 3);

    /// [`End::kind`] of [`Verdict::Pass`].
    pub const PASS: u8 = 0;
    /// Of [`Verdict::Drop`].
    pub const DROP: u8 = 1;
    /// Of [`Verdict::Send`].
    pub const SEND: u8 = 2;
    /// Of [`Verdict::Reply`].
    pub const REPLY: u8 = 3;

    /// The end of a packet that goes out of the interface of this number.
    #[inline(always)]
    pub const fn send(how: Send, interface: u32) -> Self {
        Self(Self::of(Verdict::Send(how)).0 | (interface as u64) << 32)
    }

    /// The end of one that does not.
    #[inline(always)]
    pub const fn of(verdict: Verdict) -> Self {
        let kind = match verdict {
            Verdict::Pass(_) => Self::PASS,
            Verdict::Drop(_) => Self::DROP,
            Verdict::Send(_) => Self::SEND,
            Verdict::Reply(_) => Self::REPLY,
        };
        Self(verdict.index() as u64 | (kind as u64) << 8)
    }

    /// The end of a packet that is dropped.
    #[inline(always)]
    pub const fn dropped(why: Drop) -> Self {
        Self::of(Verdict::Drop(why))
    }

    /// [`Verdict::index`].
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 as u8 as u32
    }

    /// Which verdict it is.
    #[inline(always)]
    #[must_use]
    pub const fn kind(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Where it goes out.
    #[inline(always)]
    #[must_use]
    pub const fn interface(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl From<Verdict> for End {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self::of(verdict)
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
    fn every_verdict_has_its_own_counter_and_name() {
        for (index, verdict) in (0..).zip(Verdict::ALL) {
            assert_eq!(verdict.index(), index, "{verdict:?}");
            assert!(!verdict.reason().is_empty(), "{verdict:?}");
        }
    }
}
