//! The `routes:` section.

use regex::RegexBuilder;
use weir_model::{Action, HostPattern, PathPattern, Route, Service};

use crate::key::{Key, Named, Table, check_unique, unknown};
use crate::mistake::Mistakes;
use crate::node::Node;
use crate::{actions, conditions, value};

/// Bytes of a compiled regular expression: what bounds its memory.
const REGEX_SIZE_MAX: usize = 1024 * 1024;

/// Keys of routes that say what passes between a client and a service.
const OF_SERVICES: [&str; 5] = ["strip-path", "rewrite", "request-headers", "mirror", "compress"];

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
    Key::new("methods", "any of these methods", "every method", "[GET, POST]"),
    Key::new(
        "headers",
        "fields that must be there, each with a value, `~ regex`, `*` (any) or `!` (absent)",
        "none",
        "{ x-version: \"2\" }",
    ),
    Key::new("query", "the same for parameters of the query", "none", "{ beta: \"1\" }"),
    Key::new("cookies", "the same for cookies", "none", "{ session: \"!\" }"),
    Key::new("sources", "any of these client addresses", "everywhere", "[192.0.2.0/24]"),
    Key::new(
        "snis",
        "any of these names asked for in the TLS handshake",
        "whatever",
        "[api.example.com, \"*.example.org\"]",
    ),
    Key::section("share", "only so large a share of clients, always the same ones"),
    Key::new("service", "where matching requests go", "", "orders"),
    Key::section("split", "instead of `service`: several, by weight"),
    Key::new(
        "split-on",
        "what decides: random, source, `{ cookie: NAME }` or `{ header: NAME }`",
        "random",
        "source",
    ),
    Key::section("redirect", "instead of `service`: the client is sent elsewhere"),
    Key::section("respond", "instead of `service`: an answer of our own"),
    Key::new("strip-path", "what matched of the path is left out", "false", "true"),
    Key::section("rewrite", "what changes on the way to the service"),
    Key::section("request-headers", "what becomes of the request's fields"),
    Key::section(
        "response-headers",
        "what becomes of the answer's fields, also of our own answers",
    ),
    Key::section("mirror", "who gets a copy of requests"),
    Key::section("compress", "which answers are compressed (`{}` with the defaults)"),
];

pub(crate) fn read(
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
    let conditions = conditions::read(&table, mistakes);
    let action = actions::read(&table, services, mistakes);
    let rewrite = actions::rewrite(&table, &paths, mistakes);
    let request_headers = actions::edits(&table, "request-headers", mistakes);
    let response_headers = actions::edits(&table, "response-headers", mistakes);
    let mirror = actions::mirror(&table, services, mistakes);
    let compress = actions::compress(&table, mistakes);
    if matches!(action, Some(Action::Redirect(_) | Action::Respond(_))) {
        for (key, node) in OF_SERVICES.iter().filter_map(|key| Some((key, table.get(key)?))) {
            mistakes.add(node.at, format!("`{key}` is for routes that lead to a service"));
        }
    }
    let name = name?;
    let value = Route {
        name: name.clone(),
        hosts,
        paths,
        conditions,
        action: action?,
        rewrite,
        request_headers,
        response_headers,
        mirror,
        compress,
    };
    Some(Named { at: node.at, name, value })
}

pub(crate) fn find<T>(what: &str, name: &str, among: &[Named<T>]) -> Result<usize, String> {
    among.iter().position(|named| named.name == name).ok_or_else(|| {
        unknown(&format!("{what} `{name}`"), name, among.iter().map(|named| named.name.as_str()))
    })
}

pub(crate) fn host(text: &str) -> Result<HostPattern, String> {
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
        return regex_text(regex).map(PathPattern::Regex);
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

/// A regular expression that compiles.
pub(crate) fn regex_text(text: &str) -> Result<String, String> {
    let regex = text.trim_start();
    match RegexBuilder::new(regex).size_limit(REGEX_SIZE_MAX).build() {
        Ok(_) => Ok(regex.to_owned()),
        Err(error) => {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or("").trim_start_matches("error: ");
            Err(format!("`{regex}` is no regular expression: {last}"))
        }
    }
}
