//! The `services:` section.

use weir_model::{
    CheckKind, ProxyVersion, Retries, RetryOn, Service, ServiceProtocol, ServiceTimeouts, Target,
    Upstream,
};

use crate::key::{Key, Named, Table, check_unique};
use crate::mistake::Mistakes;
use crate::node::{Node, Value};
use crate::routes::find;
use crate::{tls, value};

/// Bytes of a request that may be gathered: what bounds the memory of a connection.
const BUFFER_SIZE_MAX: u64 = 16 * 1024 * 1024;

pub(crate) const SERVICES: &[Key] = &[
    Key::new("name", "unique among services (required)", "", "orders"),
    Key::new("upstream", "the upstream's name (this or `url` is required)", "", "orders"),
    Key::new(
        "url",
        "one backend instead of an upstream; `https://` implies `tls`",
        "",
        "http://127.0.0.1:9000",
    ),
    Key::new("protocol", "what backends speak: http1 or http2", "http1", "http2"),
    Key::section("tls", "makes connections to backends TLS (`{}` with the defaults)"),
    Key::new(
        "proxy-protocol",
        "connections to backends begin with a PROXY protocol header: v1 or v2",
        "off",
        "v2",
    ),
    Key::section("timeouts", "how long a backend may take"),
    Key::section("retries", "when a request is sent once more"),
    Key::new(
        "hedge",
        "after how long without an answer a request is sent to another backend too; the first wins",
        "never",
        "100ms",
    ),
    Key::new(
        "buffer-request",
        "bodies up to this size are gathered before they are sent; others pass as they come",
        "none",
        "64KiB",
    ),
];

pub(crate) const TIMEOUTS: &[Key] = &[
    Key::new("connect", "to accept a connection; then the next backend, then 504", "1s", "500ms"),
    Key::new("response", "from the request to the head of its answer; then 504", "30s", "5s"),
    Key::new(
        "idle",
        "between two reads or writes of a body; then the exchange is cut",
        "60s",
        "10s",
    ),
    Key::new("queue", "for a place where the upstream has limits; then 503", "1s", "100ms"),
    Key::new(
        "request",
        "from the request to the end of its answer; then 504, or a cut",
        "none",
        "1m",
    ),
];

pub(crate) const RETRIES: &[Key] = &[
    Key::new("attempts", "how often besides the first time, 0 to 10", "1", "2"),
    Key::new(
        "on",
        "connect-failure, reset, timeout, or a status of 500 to 599; where requests could have been \
         acted on, only GET, HEAD, OPTIONS, TRACE, PUT and DELETE are repeated",
        "[connect-failure, reset]",
        "[connect-failure, reset, 503]",
    ),
    Key::new("budget", "retries in percent of requests, over all reactors", "20%", "10%"),
    Key::new("per-try", "how long one attempt may take to the head of its answer", "none", "2s"),
];

/// Reads the services; a `url` adds an upstream of that one target.
pub(crate) fn read(
    root: &Table<'_>,
    upstreams: &mut Vec<Named<Upstream>>,
    mistakes: &mut Mistakes,
) -> Vec<Named<Service>> {
    let mut services = Vec::new();
    for node in root.list("services", mistakes) {
        services.extend(service(node, upstreams, mistakes));
    }
    check_unique("service", &services, mistakes);
    check_probes(upstreams, &services, mistakes);
    services
}

/// A probe says nothing before its question, which targets do not answer that are always asked by TLS or
/// after a PROXY header.
fn check_probes(
    upstreams: &[Named<Upstream>],
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) {
    for (index, upstream) in upstreams.iter().enumerate() {
        let word = match upstream.value.health.as_ref().map(|check| &check.kind) {
            Some(CheckKind::Http { .. }) => "http",
            Some(CheckKind::Grpc { .. }) => "grpc",
            Some(CheckKind::Tcp) | None => continue,
        };
        let before_all_else = |service: &Named<Service>| match &service.value {
            Service { tls: Some(_), .. } => Some((service.name.clone(), "tls")),
            Service { proxy_protocol: Some(_), .. } => {
                Some((service.name.clone(), "proxy-protocol"))
            }
            _ => None,
        };
        let asking = services.iter().filter(|service| service.value.upstream == index);
        let asking: Option<Vec<_>> = asking.map(before_all_else).collect();
        if let Some((service, key)) = asking.unwrap_or_default().first() {
            let message = format!(
                "targets of `{}` expect the `{key}` of service `{service}`, without which a probe of \
                 type {word} asks; write `type: tcp`",
                upstream.name
            );
            mistakes.add(upstream.at, message);
        }
    }
}

fn service(
    node: &Node,
    upstreams: &mut Vec<Named<Upstream>>,
    mistakes: &mut Mistakes,
) -> Option<Named<Service>> {
    let table = Table::open(node, "a service", SERVICES, mistakes)?;
    let name = table.require("name", mistakes, value::name);
    let timeouts = timeouts(&table, mistakes);
    let protocol =
        table.read("protocol", mistakes, |text| value::word(text, &ServiceProtocol::NAMES));
    let proxy_protocol =
        table.read("proxy-protocol", mistakes, |text| value::word(text, &ProxyVersion::NAMES));
    if let (Some(ServiceProtocol::Http2), Some(node)) = (protocol, table.get("proxy-protocol")) {
        let why =
            "a connection of HTTP/2 is for many clients, so it cannot begin with one's address";
        mistakes.add(node.at, why);
    }
    let is_https = table.get("url").is_some_and(
        |node| matches!(&node.value, Value::Scalar(url) if url.starts_with("https://")),
    );
    let tls = tls::read_client(&table, is_https, mistakes);
    let retries = retries(&table, mistakes);
    let hedge = table.read("hedge", mistakes, value::timeout);
    let buffer_request = table.read("buffer-request", mistakes, buffer_size);
    let upstream = match (table.get("upstream"), table.get("url")) {
        (Some(_), None) => {
            table.read("upstream", mistakes, |text| find("upstream", text, upstreams))
        }
        (None, Some(_)) => {
            let target = table.read("url", mistakes, url);
            let upstream = target.zip(name.clone()).map(|(target, name)| of_one(&name, target));
            upstream.map(|value| {
                upstreams.push(Named { at: node.at, name: value.name.clone(), value });
                upstreams.len() - 1
            })
        }
        _ => {
            mistakes.add(table.at, "a service needs `upstream` or `url`, and only one of them");
            None
        }
    };
    let (name, upstream) = (name?, upstream?);
    let value = Service {
        protocol: protocol.unwrap_or_default(),
        tls,
        proxy_protocol,
        timeouts,
        retries,
        hedge,
        buffer_request,
        ..Service::new(name.clone(), upstream)
    };
    Some(Named { at: node.at, name, value })
}

fn url(text: &str) -> Result<Target, String> {
    let refused = || format!("`{text}` is no URL like http://127.0.0.1:9000");
    let address = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let address = address.ok_or_else(refused)?;
    let address = address.strip_suffix('/').unwrap_or(address);
    let address = value::address(address).map_err(|error| format!("{}: {error}", refused()))?;
    Ok(Target::new(address))
}

fn of_one(name: &str, target: Target) -> Upstream {
    // The characters around the name keep it apart from every configured one.
    Upstream::new(format!("url({name})"), vec![target])
}

fn timeouts(service: &Table<'_>, mistakes: &mut Mistakes) -> ServiceTimeouts {
    let default = ServiceTimeouts::default();
    let Some(table) = service.section("timeouts", "`timeouts`", TIMEOUTS, mistakes) else {
        return default;
    };
    ServiceTimeouts {
        connect: table.read("connect", mistakes, value::timeout).unwrap_or(default.connect),
        response: table.read("response", mistakes, value::timeout).unwrap_or(default.response),
        idle: table.read("idle", mistakes, value::timeout).unwrap_or(default.idle),
        queue: table.read("queue", mistakes, value::timeout).unwrap_or(default.queue),
        request: table.read("request", mistakes, value::timeout),
    }
}

fn retries(service: &Table<'_>, mistakes: &mut Mistakes) -> Retries {
    let default = Retries::default();
    let Some(table) = service.section("retries", "`retries`", RETRIES, mistakes) else {
        return default;
    };
    let attempts = table.read("attempts", mistakes, |text| value::number(text, 0..=10));
    let budget = table.read("budget", mistakes, |text| value::percent(text, 0..=100));
    let on = table.values("on", mistakes, retry_on);
    Retries {
        attempts: attempts.and_then(|it| u32::try_from(it).ok()).unwrap_or(default.attempts),
        on: if table.get("on").is_some() { on } else { default.on },
        budget: budget.unwrap_or(default.budget),
        per_try: table.read("per-try", mistakes, value::timeout),
    }
}

fn retry_on(text: &str) -> Result<RetryOn, String> {
    const WORDS: [(&str, RetryOn); 3] = [
        ("connect-failure", RetryOn::ConnectFailure),
        ("reset", RetryOn::Reset),
        ("timeout", RetryOn::Timeout),
    ];
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let status = value::number(text, 500..=599)?;
        return u16::try_from(status).map(RetryOn::Status).map_err(|_| "out of range".to_owned());
    }
    value::word(text, &WORDS)
}

fn buffer_size(text: &str) -> Result<u64, String> {
    let size = value::size(text)?;
    if size <= BUFFER_SIZE_MAX { Ok(size) } else { Err("must be at most 16MiB".to_owned()) }
}
