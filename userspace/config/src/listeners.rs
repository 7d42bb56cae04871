//! The `listeners:` section.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use weir_model::{Also, Cidr, Limits, Listener, Serves, Service, Timeouts};

use crate::key::{Key, Named, Table, check_unique, scalar};
use crate::mistake::Mistakes;
use crate::node::Node;
use crate::{routes, tls, value};

pub(crate) const KEYS: &[Key] = &[
    Key::new("name", "unique among listeners (required)", "", "web"),
    Key::new("address", "where it is bound (required)", "", "0.0.0.0:8000"),
    Key::new(
        "also",
        "addresses and ports that it serves besides, without being bound to them; needs the kernel side; \
         at most 128 of all listeners together",
        "none",
        "[\"203.0.113.0/24:80\", \"[2001:db8::]/64:8000-8099\"]",
    ),
    Key::new(
        "protocols",
        "what is spoken: `http1`, `http2`, both, or alone `tcp` or `tls` (passed on as it is)",
        "[http1]",
        "[http1, http2]",
    ),
    Key::new("service", "where everything goes on a listener that speaks `tcp`", "", "database"),
    Key::section("tls", "certificates, which make it speak TLS"),
    Key::new(
        "proxy-protocol",
        "connections begin with a PROXY protocol header, v1 or v2, that names the client",
        "false",
        "true",
    ),
    Key::section("limits", "what a client may take up"),
    Key::section("timeouts", "how long a client may take"),
];

pub(crate) const LIMITS: &[Key] = &[
    Key::new("connections", "open client connections; more are closed at once", "65536", "10000"),
    Key::new(
        "header-size",
        "bytes of a request's head, 1KiB to 256KiB; more: 431",
        "32KiB",
        "16KiB",
    ),
    Key::new("headers", "fields of a request's head, 1 to 256; more: 431", "100", "50"),
    Key::new("body-size", "bytes of a request's body; more: 413", "unlimited", "10MiB"),
    Key::new("requests", "requests on one connection, then it is closed", "unlimited", "1000"),
];

pub(crate) const TIMEOUTS: &[Key] = &[
    Key::new("header", "for the head of a request; then 408", "10s", "5s"),
    Key::new("body", "between two reads of a body; then 408", "30s", "10s"),
    Key::new("write", "for a client that is slow to take its answer; then it is cut", "30s", "10s"),
    Key::new("idle", "without a request on an open connection; then it is closed", "60s", "15s"),
];

/// What `protocols` may name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Http1,
    Http2,
    Tcp,
    Tls,
}

const WORDS: [(&str, Word); 4] =
    [("http1", Word::Http1), ("http2", Word::Http2), ("tcp", Word::Tcp), ("tls", Word::Tls)];

pub(crate) fn read(
    root: &Table<'_>,
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) -> Vec<Listener> {
    let nodes = root.list("listeners", mistakes);
    let is_empty = root.get("listeners").is_none() || (nodes.is_empty() && mistakes.is_empty());
    if is_empty && root.get("vips").is_none() {
        mistakes.add(root.at, "the configuration needs `listeners` or `vips` with at least one");
    }
    let named: Vec<_> =
        nodes.iter().filter_map(|node| listener(node, services, mistakes)).collect();
    check_unique("listener", &named, mistakes);
    check_addresses(&named, mistakes);
    check_also(&named, mistakes);
    named.into_iter().map(|named| named.value).collect()
}

fn check_addresses(listeners: &[Named<Listener>], mistakes: &mut Mistakes) {
    for (index, listener) in listeners.iter().enumerate() {
        let same = |other: &&Named<Listener>| other.value.address == listener.value.address;
        if let Some(first) = listeners.iter().take(index).find(same) {
            let message = format!(
                "{} is the address of listener `{}` already",
                listener.value.address, first.name
            );
            mistakes.add(listener.at, message);
        }
    }
}

fn check_also(listeners: &[Named<Listener>], mistakes: &mut Mistakes) {
    let mut count = 0;
    for listener in listeners {
        count += listener.value.also.len();
        if count > Also::MAX {
            let message = format!("more than {} `also` of all listeners together", Also::MAX);
            return mistakes.add(listener.at, message);
        }
    }
}

fn listener(
    node: &Node,
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) -> Option<Named<Listener>> {
    let table = Table::open(node, "a listener", KEYS, mistakes)?;
    let name = table.require("name", mistakes, value::name);
    let address = table.require("address", mistakes, value::address);
    let also = table.values("also", mistakes, |text| also(text, address));
    let serves = serves(&table, services, mistakes);
    let tls = tls::read_server(&table, mistakes);
    let proxy_protocol = table.read("proxy-protocol", mistakes, value::boolean).unwrap_or(false);
    let limits = limits(&table, mistakes);
    let timeouts = timeouts(&table, mistakes);
    if let (Some(Serves::TlsPassthrough), Some(node)) = (serves, table.get("tls")) {
        mistakes.add(
            node.at,
            "`protocols: [tls]` passes TLS on as it is; certificates are the backend's",
        );
    }
    let (name, address, serves) = (name?, address?, serves?);
    let value = Listener {
        name: name.clone(),
        address,
        also,
        serves,
        tls,
        proxy_protocol,
        limits,
        timeouts,
    };
    Some(Named { at: node.at, name, value })
}

/// `203.0.113.0/24:80`, `[2001:db8::]/64:8000-8099`
fn also(text: &str, listener: Option<SocketAddr>) -> Result<Also, String> {
    let wrong = || {
        format!(
            "`{text}` is no prefix with ports, like 203.0.113.0/24:80 or [2001:db8::]/64:8000-8099"
        )
    };
    let (prefix, ports) = text.rsplit_once(':').ok_or_else(wrong)?;
    let prefix = match prefix.strip_prefix('[').and_then(|prefix| prefix.split_once(']')) {
        Some((address, length)) => format!("{address}{length}"),
        None if prefix.contains(':') => return Err(wrong()),
        None => prefix.to_owned(),
    };
    let cidr: Cidr = prefix.parse().map_err(|error| format!("{prefix}: {error}"))?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let port = |text: &str| text.parse::<NonZeroU16>().map_err(|_| wrong());
    let (first_port, last_port) = (port(first)?, port(last)?);
    if first_port > last_port {
        return Err(format!("`{text}`: port {first_port} is above {last_port}"));
    }
    if cidr.address().is_ipv6() && listener.is_some_and(|listener| listener.is_ipv4()) {
        return Err(format!("`{text}`: a listener with an IPv4 address serves no IPv6"));
    }
    Ok(Also { cidr, first_port, last_port })
}

fn serves(
    table: &Table<'_>,
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) -> Option<Serves> {
    let nodes = table.list("protocols", mistakes);
    let words: Vec<_> = nodes
        .iter()
        .filter_map(|node| scalar(node, "protocols", mistakes, |text| value::word(text, &WORDS)))
        .collect();
    let has = |word| words.contains(&word);
    let is_alone = words.iter().all(|word| Some(word) == words.first());
    if (has(Word::Tcp) || has(Word::Tls)) && !is_alone {
        mistakes.add(table.at, "`tcp` and `tls` stand alone in `protocols`");
        return None;
    }
    let service = table.read("service", mistakes, |text| routes::find("service", text, services));
    match (words.first(), table.get("service")) {
        (Some(Word::Tcp), None) => {
            mistakes.add(table.at, "a listener that speaks `tcp` needs `service`");
            None
        }
        (Some(Word::Tcp), Some(_)) => service.map(|service| Serves::Tcp { service }),
        (_, Some(node)) => {
            mistakes
                .add(node.at, "`service` is for `protocols: [tcp]`; routes lead to services else");
            None
        }
        (Some(Word::Tls), None) => Some(Serves::TlsPassthrough),
        (None, None) => Some(Serves::default()),
        (Some(_), None) => Some(Serves::Http { http1: has(Word::Http1), http2: has(Word::Http2) }),
    }
}

fn limits(listener: &Table<'_>, mistakes: &mut Mistakes) -> Limits {
    let default = Limits::default();
    let Some(table) = listener.section("limits", "`limits`", LIMITS, mistakes) else {
        return default;
    };
    let connections =
        table.read("connections", mistakes, |text| value::number(text, 1..=u64::from(u32::MAX)));
    let header_size = table.read("header-size", mistakes, header_size);
    let headers =
        table.read("headers", mistakes, |text| value::number(text, 1..=Limits::HEADERS_MAX as u64));
    Limits {
        connections: connections
            .and_then(|connections| u32::try_from(connections).ok())
            .unwrap_or(default.connections),
        header_size: header_size.unwrap_or(default.header_size),
        headers: headers
            .and_then(|headers| usize::try_from(headers).ok())
            .unwrap_or(default.headers),
        body_size: table.read("body-size", mistakes, value::size),
        requests: table.read("requests", mistakes, |text| value::number(text, 1..=u64::MAX)),
    }
}

fn header_size(text: &str) -> Result<usize, String> {
    let size = usize::try_from(value::size(text)?).unwrap_or(usize::MAX);
    if (Limits::HEADER_SIZE_MIN..=Limits::HEADER_SIZE_MAX).contains(&size) {
        Ok(size)
    } else {
        Err("must be 1KiB to 256KiB".to_owned())
    }
}

fn timeouts(listener: &Table<'_>, mistakes: &mut Mistakes) -> Timeouts {
    let default = Timeouts::default();
    let Some(table) = listener.section("timeouts", "`timeouts`", TIMEOUTS, mistakes) else {
        return default;
    };
    Timeouts {
        header: table.read("header", mistakes, value::timeout).unwrap_or(default.header),
        body: table.read("body", mistakes, value::timeout).unwrap_or(default.body),
        write: table.read("write", mistakes, value::timeout).unwrap_or(default.write),
        idle: table.read("idle", mistakes, value::timeout).unwrap_or(default.idle),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn listeners_have_so_many_others_together() {
        let outcome = |counts: [usize; 2]| {
            let listener = |(index, count): (usize, usize)| {
                let also = vec!["\"203.0.113.0/24:80\""; count].join(", ");
                format!("  - {{ name: l{index}, address: 127.0.0.1:{index}, also: [{also}] }}\n")
            };
            let listeners: String = (1..).zip(counts).map(listener).collect();
            let text = format!("listeners:\n{listeners}");
            let config = crate::parse(&text, &crate::ProcessEnvironment);
            config
                .err()
                .map(|mistakes| mistakes.iter().map(ToString::to_string).collect::<String>())
        };
        assert_eq!(outcome([28, 100]), None);
        let refused = outcome([28, 101]).unwrap();
        assert!(refused.contains("3:5: more than 128 `also`"), "{refused}");
    }
}
