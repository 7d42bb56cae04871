//! The `kernel.guard:` section.

use std::time::Duration;

use weir_model::{Guard, GuardBan, GuardKey, RuleMode, SynGuard};

use crate::key::{Key, Table};
use crate::mistake::Mistakes;
use crate::value;

/// More than any host gets.
const RATE_MAX: u64 = 1_000_000_000;
/// Hexadecimal digits of a key.
const KEY_DIGITS: usize = 32;
/// One that makes challenges, and the one before it.
const KEYS_MAX: usize = 2;

pub(crate) const KEYS: &[Key] = &[
    Key::new(
        "syn",
        "whether SYNs are answered in the driver: off, auto (while there are too many) or always",
        "auto",
        "always",
    ),
    Key::new("syn-rate", "SYNs a second of a VIP or listener that are too many", "10000", "50000"),
    Key::new("calm-after", "how long there must be fewer before the guard calms down", "30s", "2m"),
    Key::new(
        "source-packet-rate",
        "packets a second of an address (IPv6: /64), whatever they are for; 0 is without limit",
        "0",
        "20000",
    ),
    Key::new(
        "source-syn-rate",
        "SYNs a second of an address (/64), while a VIP or listener is watched or attacked",
        "0",
        "50",
    ),
    Key::new("network-syn-rate", "the same of a /24 (/48)", "0", "500"),
    Key::new("region-syn-rate", "the same of a /16 (/32)", "0", "5000"),
    Key::new(
        "vip-syn-rate",
        "SYNs a second that go on to a VIP's backends, while it is watched or attacked",
        "0",
        "100000",
    ),
    Key::new("fragment-rate", "fragments a second that rule `fragments` lets pass", "0", "1000"),
    Key::new(
        "tcp-flags",
        "TCP flags that no stack sends together: off, dry-run or drop",
        "off",
        "drop",
    ),
    Key::new(
        "fragments",
        "fragments beyond `fragment-rate`: off, dry-run or drop",
        "off",
        "dry-run",
    ),
    Key::new(
        "udp-reflection",
        "UDP to a VIP from ports of services that reflect (53, 123, 11211 …): off, dry-run or drop",
        "off",
        "drop",
    ),
    Key::new(
        "proven-for",
        "how long a source that has answered a challenge is believed",
        "5m",
        "1h",
    ),
    Key::new(
        "keys",
        "what challenges are made with, for all balancers of a fleet: 32 hexadecimal digits; a second key \
         is the one before, still believed",
        "random",
        "[\"${file:/etc/weir/guard.key}\"]",
    ),
    Key::section("ban", "sources that stay over a limit are banned"),
    Key::new("dry-run", "everything is counted, nothing dropped or answered", "false", "true"),
];

pub(crate) const BAN: &[Key] = &[
    Key::new("after", "how long a source must be over its limit without a pause", "5s", "30s"),
    Key::new("ttl", "how long it is banned", "10m", "1h"),
];

pub(crate) fn read(kernel: &Table<'_>, mistakes: &mut Mistakes) -> Guard {
    let default = Guard::default();
    let Some(table) = kernel.section("guard", "`guard`", KEYS, mistakes) else { return default };
    let mut rate = |name, least: u64| {
        let number = table.read(name, mistakes, |text| value::number(text, least..=RATE_MAX));
        number.and_then(|number| u32::try_from(number).ok())
    };
    let syn_rate = rate("syn-rate", 1).unwrap_or(default.syn_rate);
    let mut limit = |name| rate(name, 0).unwrap_or(0);
    let source_packet_rate = limit("source-packet-rate");
    let syn_rates = ["source-syn-rate", "network-syn-rate", "region-syn-rate"].map(&mut limit);
    let (vip_syn_rate, fragment_rate) = (limit("vip-syn-rate"), limit("fragment-rate"));
    let mut rule = |name| {
        table.read(name, mistakes, |text| value::word(text, &RuleMode::NAMES)).unwrap_or_default()
    };
    let (tcp_flags, fragments) = (rule("tcp-flags"), rule("fragments"));
    let udp_reflection = rule("udp-reflection");
    if fragments != RuleMode::Off && fragment_rate == 0 {
        mistakes.add(table.at, "rule `fragments` needs a `fragment-rate`");
    }
    let keys = table.values("keys", mistakes, key);
    if keys.len() > KEYS_MAX {
        mistakes.add(table.at, "`keys` may hold two: the one in use, and the one before");
    }
    let syn = table.read("syn", mistakes, |text| value::word(text, &SynGuard::NAMES));
    Guard {
        syn: syn.unwrap_or_default(),
        syn_rate,
        calm_after: seconds(&table, "calm-after", mistakes).unwrap_or(default.calm_after),
        source_packet_rate,
        syn_rates,
        vip_syn_rate,
        fragment_rate,
        proven_for: seconds(&table, "proven-for", mistakes).unwrap_or(default.proven_for),
        tcp_flags,
        fragments,
        udp_reflection,
        dry_run: table.read("dry-run", mistakes, value::boolean).unwrap_or(false),
        keys,
        ban: table.section("ban", "`ban`", BAN, mistakes).map(|ban| GuardBan {
            after: seconds(&ban, "after", mistakes).unwrap_or(Duration::from_secs(5)),
            ttl: seconds(&ban, "ttl", mistakes).unwrap_or(Duration::from_mins(10)),
        }),
    }
}

fn seconds(table: &Table<'_>, name: &'static str, mistakes: &mut Mistakes) -> Option<Duration> {
    table.read(name, mistakes, |text| {
        let time = value::timeout(text)?;
        if time.as_secs() == 0 { Err("must be at least 1s".to_owned()) } else { Ok(time) }
    })
}

/// Never shows what it was given.
fn key(text: &str) -> Result<GuardKey, String> {
    let refused = || format!("a key is {KEY_DIGITS} hexadecimal digits, not all of them 0");
    let text = text.trim();
    if text.len() != KEY_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refused());
    }
    let number = u128::from_str_radix(text, 16).map_err(|_| refused())?;
    if number == 0 { Err(refused()) } else { Ok(GuardKey([(number >> 64) as u64, number as u64])) }
}
