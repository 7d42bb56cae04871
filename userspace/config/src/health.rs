//! `health:` of an upstream: probes, and what is seen of answers.

use std::ops::RangeInclusive;
use std::time::Duration;

use weir_model::{ActiveCheck, CheckKind, PassiveCheck, Statuses};

use crate::key::{Key, Table};
use crate::mistake::Mistakes;
use crate::node::Value;
use crate::value;

/// The shortest time between two probes of a target.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Characters of a name in a probe.
const TEXT_SIZE_MAX: usize = 256;
/// Errors in a row that may be asked for.
const ERRORS_MAX: u32 = 10_000;

pub(crate) const KEYS: &[Key] = &[
    Key::section("active", "probes of their own"),
    Key::section("passive", "what their answers tell: who answers badly is left out for a time"),
];

pub(crate) const ACTIVE: &[Key] = &[
    Key::new(
        "type",
        "what a probe does: http (some statuses are good), grpc (grpc.health.v1 over HTTP/2; SERVING is \
         good) or tcp (a connection is); the first two without TLS and PROXY header, so where every service \
         that leads here has `tls` or `proxy-protocol`, tcp it must be",
        "http",
        "tcp",
    ),
    Key::new("path", "what an http probe asks for", "/", "/health"),
    Key::new(
        "host",
        "what an http probe gives as `Host`",
        "the target's address",
        "orders.internal",
    ),
    Key::new("statuses", "which answers to an http probe are good", "[200-399]", "[200-299, 304]"),
    Key::new(
        "service",
        "which service a grpc probe asks for",
        "the whole server",
        "orders.v1.Orders",
    ),
    Key::new(
        "vip",
        "probes go to this VIP, wrapped as its packets to the target are (ipip, gue, l2)",
        "the target's own address",
        "web",
    ),
    Key::new("interval", "between two probes of a target, at least 50ms", "2s", "500ms"),
    Key::new("timeout", "how long a probe may take", "1s", "250ms"),
    Key::new("rise", "good probes in a row that bring a target up, 1 to 100", "2", "1"),
    Key::new("fall", "bad probes in a row that take a target down, 1 to 100", "3", "2"),
];

pub(crate) const PASSIVE: &[Key] = &[
    Key::new(
        "consecutive-errors",
        "answers of 500 and more, or none at all, in a row that eject a target",
        "5",
        "3",
    ),
    Key::new(
        "consecutive-gateway-errors",
        "answers of 502, 503 and 504, or none at all, in a row that do",
        "any number",
        "3",
    ),
    Key::new(
        "interval",
        "so much time in use takes one ejection off the count that lengthens the next",
        "10s",
        "30s",
    ),
    Key::new(
        "base-ejection",
        "how long the first ejection is; the second is twice as long, and so on",
        "30s",
        "10s",
    ),
    Key::new("max-ejection", "how long the longest one is", "300s", "10m"),
    Key::new(
        "max-ejected",
        "the most targets ejected at a time, 0% to 100%; one of several may be, the last usable one \
         never",
        "50%",
        "20%",
    ),
];

/// What a probe may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Grpc,
    Tcp,
}

const KINDS: [(&str, Kind); 3] = [("http", Kind::Http), ("grpc", Kind::Grpc), ("tcp", Kind::Tcp)];

/// Keys of probes of one kind.
const OF_KIND: [(&str, Kind); 4] =
    [("path", Kind::Http), ("host", Kind::Http), ("statuses", Kind::Http), ("service", Kind::Grpc)];

pub(crate) fn active(health: &Table<'_>, mistakes: &mut Mistakes) -> Option<ActiveCheck> {
    let table = health.section("active", "`active`", ACTIVE, mistakes)?;
    let kind = kind(&table, mistakes);
    let mut count = |name, default| {
        table.read(name, mistakes, |text| value::count(text, 100)).unwrap_or(default)
    };
    let (rise, fall) = (count("rise", 2), count("fall", 3));
    let interval = table.read("interval", mistakes, |text| {
        let interval = value::timeout(text)?;
        if interval < INTERVAL_MIN { Err("must be at least 50ms".to_owned()) } else { Ok(interval) }
    });
    let timeout = table.read("timeout", mistakes, value::timeout);
    Some(ActiveCheck {
        vip: table.read("vip", mistakes, value::name),
        kind,
        interval: interval.unwrap_or(Duration::from_secs(2)),
        timeout: timeout.unwrap_or(Duration::from_secs(1)),
        rise,
        fall,
    })
}

fn kind(table: &Table<'_>, mistakes: &mut Mistakes) -> CheckKind {
    let kind = table.read("type", mistakes, |text| value::word(text, &KINDS));
    let kind = kind.unwrap_or(Kind::Http);
    let (path, host) = (table.read("path", mistakes, path), table.read("host", mistakes, host));
    let service = table.read("service", mistakes, service);
    let statuses = statuses(table, mistakes);
    let word = KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| *word);
    for (name, _) in OF_KIND.iter().filter(|(_, of)| *of != kind) {
        if table.get(name).is_some() {
            mistakes.add(table.at, format!("a probe of type {word} has no `{name}`"));
        }
    }
    match kind {
        Kind::Http => {
            CheckKind::Http { path: path.unwrap_or_else(|| "/".to_owned()), host, statuses }
        }
        Kind::Grpc => CheckKind::Grpc { service: service.unwrap_or_default() },
        Kind::Tcp => CheckKind::Tcp,
    }
}

fn path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_path { Ok(text.to_owned()) } else { Err(format!("`{text}` is no path like /health")) }
}

fn host(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if (1..=TEXT_SIZE_MAX).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no host like orders.internal or orders.internal:9000"))
    }
}

fn service(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if text.len() <= TEXT_SIZE_MAX && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no service like orders.v1.Orders"))
    }
}

fn statuses(table: &Table<'_>, mistakes: &mut Mistakes) -> Statuses {
    let Some(node) = table.get("statuses") else { return Statuses::default() };
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        mistakes.add(node.at, "`statuses` needs at least one");
    }
    Statuses(table.values("statuses", mistakes, status_range))
}

fn status_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let refused = || format!("`{text}` is no status or range like 304 or 200-299");
    let status = |text: &str| {
        let status = value::number(text, 100..=599).map_err(|_| refused())?;
        u16::try_from(status).map_err(|_| refused())
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    if first <= last { Ok(first..=last) } else { Err(refused()) }
}

pub(crate) fn passive(health: &Table<'_>, mistakes: &mut Mistakes) -> Option<PassiveCheck> {
    let table = health.section("passive", "`passive`", PASSIVE, mistakes)?;
    let default = PassiveCheck::default();
    let mut count = |name| table.read(name, mistakes, |text| value::count(text, ERRORS_MAX));
    let (errors, gateway_errors) =
        (count("consecutive-errors"), count("consecutive-gateway-errors"));
    let mut time = |name, default| table.read(name, mistakes, value::timeout).unwrap_or(default);
    let base_ejection = time("base-ejection", default.base_ejection);
    let check = PassiveCheck {
        consecutive_errors: errors.unwrap_or(default.consecutive_errors),
        consecutive_gateway_errors: gateway_errors,
        interval: time("interval", default.interval),
        base_ejection,
        max_ejection: time("max-ejection", default.max_ejection.max(base_ejection)),
        max_ejected: table
            .read("max-ejected", mistakes, |text| value::percent(text, 0..=100))
            .unwrap_or(default.max_ejected),
    };
    if check.max_ejection < check.base_ejection {
        mistakes.add(table.at, "`max-ejection` is shorter than `base-ejection`");
    }
    Some(check)
}
