//! The flood guard: what it looks for and how it answers.

use std::time::Duration;

/// The `kernel.guard:` section. Rates are per second; 0 is without limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// When SYNs are answered in the driver.
    pub syn: SynGuard,
    /// SYNs of a VIP or listener from which on `auto` does.
    pub syn_rate: u32,
    /// How long the rate must stay lower before the guard calms down.
    pub calm_after: Duration,
    /// Packets of a source, whatever they are for.
    pub source_packet_rate: u32,
    /// SYNs of an address (IPv6: /64), of a /24 (/48) and of a /16 (/32), while a VIP or listener is watched
    /// or attacked.
    pub syn_rates: [u32; 3],
    /// SYNs of a VIP that go on to its backends, while it is watched or attacked.
    pub vip_syn_rate: u32,
    /// Fragments.
    pub fragment_rate: u32,
    /// How long a source that has proven to be there is believed.
    pub proven_for: Duration,
    /// TCP flags that no stack sends together.
    pub tcp_flags: RuleMode,
    /// More fragments than `fragment_rate`.
    pub fragments: RuleMode,
    /// UDP to a VIP from ports of services that reflect.
    pub udp_reflection: RuleMode,
    /// Everything is counted, nothing is dropped or answered.
    pub dry_run: bool,
    /// The keys of challenges, of which the first makes them; without any a random one.
    pub keys: Vec<GuardKey>,
    /// Whether sources that stay over a limit are banned.
    pub ban: Option<GuardBan>,
}

/// When SYNs are answered in the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SynGuard {
    /// Never.
    Off,
    /// While there are too many.
    #[default]
    Auto,
    /// Always.
    Always,
}

impl SynGuard {
    /// Every one with the word users type for it.
    pub const NAMES: [(&'static str, Self); 3] =
        [("off", Self::Off), ("auto", Self::Auto), ("always", Self::Always)];
}

/// What becomes of packets that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RuleMode {
    /// Nobody looks for them.
    #[default]
    Off,
    /// They are counted.
    DryRun,
    /// They are dropped.
    Drop,
}

impl RuleMode {
    /// Every one with the word users type for it.
    pub const NAMES: [(&'static str, Self); 3] =
        [("off", Self::Off), ("dry-run", Self::DryRun), ("drop", Self::Drop)];
}

/// A key that a fleet shares. Its text is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GuardKey(pub [u64; 2]);

impl std::fmt::Debug for GuardKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GuardKey(…)")
    }
}

/// When a source is banned, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardBan {
    /// How long it must have been over its limit without a pause.
    pub after: Duration,
    /// How long it is banned.
    pub ttl: Duration,
}

impl Guard {
    /// `syn-rate` where none is given.
    pub const SYN_RATE_DEFAULT: u32 = 10_000;
    /// `calm-after` where none is given.
    pub const CALM_AFTER_DEFAULT: Duration = Duration::from_secs(30);
    /// `proven-for` where none is given.
    pub const PROVEN_FOR_DEFAULT: Duration = Duration::from_mins(5);
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            syn: SynGuard::Auto,
            syn_rate: Self::SYN_RATE_DEFAULT,
            calm_after: Self::CALM_AFTER_DEFAULT,
            source_packet_rate: 0,
            syn_rates: [0; 3],
            vip_syn_rate: 0,
            fragment_rate: 0,
            proven_for: Self::PROVEN_FOR_DEFAULT,
            tcp_flags: RuleMode::Off,
            fragments: RuleMode::Off,
            udp_reflection: RuleMode::Off,
            dry_run: false,
            keys: Vec::new(),
            ban: None,
        }
    }
}
