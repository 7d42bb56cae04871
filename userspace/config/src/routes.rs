//! The `routes:` and `services:` sections.

use regex::RegexBuilder;
use weir_model::{
    HostPattern, PathPattern, ProxyVersion, Route, Service, ServiceProtocol, ServiceTimeouts,
    Target, Upstream,
};

use crate::key::{Key, Named, Table, check_unique, unknown};
use crate::mistake::Mistakes;
use crate::node::{Node, Value};
use crate::{tls, value};

/// Bytes of a compiled regular expression: what bounds its memory.
const REGEX_SIZE_MAX: usize = 1024 * 1024;

pub(crate) const ROUTES: &[Key] = &[
    Key::new("name", "unique among routes (required)", "", "orders"),
    Key::new(
        "hosts",
        "any of these hosts; `*.` stands for one label or more",
        "every host",
        "[api.example.com, \"*.example.org\"]",
    ),
    Key::new(
        "paths",
        "any of these paths: `/prefix` (whole segments), `= /exact` or `~ regex`",
        "every path",
        "[/v1/orders, \"~ ^/v[0-9]+/items$\", \"= /exact\"]",
    ),
    Key::new("service", "where matching requests go (required)", "", "orders"),
];

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
];

pub(crate) fn read_routes(
    root: &Table<'_>,
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) -> Vec<Route> {
    let nodes = root.list("routes", mistakes);
    let named: Vec<_> = nodes.iter().filter_map(|node| route(node, services, mistakes)).collect();
    check_unique("route", &named, mistakes);
    named.into_iter().map(|named| named.value).collect()
}

fn route(
    node: &Node,
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) -> Option<Named<Route>> {
    let table = Table::open(node, "a route", ROUTES, mistakes)?;
    let name = table.require("name", mistakes, value::name);
    let hosts = table.values("hosts", mistakes, host);
    let paths = table.values("paths", mistakes, path);
    let service = table.require("service", mistakes, |text| find("service", text, services));
    let (name, service) = (name?, service?);
    Some(Named { at: node.at, name: name.clone(), value: Route { name, hosts, paths, service } })
}

pub(crate) fn find<T>(what: &str, name: &str, among: &[Named<T>]) -> Result<usize, String> {
    among.iter().position(|named| named.name == name).ok_or_else(|| {
        unknown(&format!("{what} `{name}`"), name, among.iter().map(|named| named.name.as_str()))
    })
}

fn host(text: &str) -> Result<HostPattern, String> {
    let name = text.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed)
    };
    let is_address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    match name.strip_prefix("*.") {
        Some(suffix) if is_name(suffix) => Ok(HostPattern::Suffix(format!(".{suffix}"))),
        None if is_name(name) || is_address => Ok(HostPattern::Exact(name.to_owned())),
        _ => Err(format!(
            "`{text}` is no host like api.example.com or *.example.com, without a port"
        )),
    }
}

fn path(text: &str) -> Result<PathPattern, String> {
    if let Some(regex) = text.strip_prefix('~') {
        let regex = regex.trim_start();
        let built = RegexBuilder::new(regex).size_limit(REGEX_SIZE_MAX).build();
        return match built {
            Ok(_) => Ok(PathPattern::Regex(regex.to_owned())),
            Err(error) => {
                let error = error.to_string();
                let last = error.lines().last().unwrap_or("").trim_start_matches("error: ");
                Err(format!("`{regex}` is no regular expression: {last}"))
            }
        };
    }
    let (path, exact) = match text.strip_prefix('=') {
        Some(path) => (path.trim_start(), true),
        None => (text, false),
    };
    if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
        return Err(format!("`{text}` is no path: write /prefix, `= /exact` or `~ regex`"));
    }
    let path = path.to_owned();
    Ok(if exact { PathPattern::Exact(path) } else { PathPattern::Prefix(path) })
}

/// Reads the services; a `url` adds an upstream of that one target.
pub(crate) fn read_services(
    root: &Table<'_>,
    upstreams: &mut Vec<Named<Upstream>>,
    mistakes: &mut Mistakes,
) -> Vec<Named<Service>> {
    let mut services = Vec::new();
    for node in root.list("services", mistakes) {
        services.extend(service(node, upstreams, mistakes));
    }
    check_unique("service", &services, mistakes);
    services
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
    let is_https = table.get("url").is_some_and(
        |node| matches!(&node.value, Value::Scalar(url) if url.starts_with("https://")),
    );
    let tls = tls::read_client(&table, is_https, mistakes);
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
    let protocol = protocol.unwrap_or_default();
    let value = Service { name: name.clone(), upstream, protocol, tls, proxy_protocol, timeouts };
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
    }
}
