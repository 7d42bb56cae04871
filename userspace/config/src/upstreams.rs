//! The `upstreams:` section.

use std::time::Duration;

use weir_model::{ActiveCheck, AlgorithmName, CheckKind, Target, Upstream, Weight};

use crate::key::{Key, Named, Table, check_unique, scalar};
use crate::mistake::Mistakes;
use crate::node::{Node, Value};
use crate::value;

/// The shortest time between two probes of a target.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

pub(crate) const KEYS: &[Key] = &[
    Key::new("name", "unique among upstreams (required)", "", "orders"),
    Key::new(
        "algorithm",
        "how a backend is chosen: round-robin or least-requests",
        "round-robin",
        "least-requests",
    ),
    Key::new(
        "targets",
        "where the backends listen, with their shares (required)",
        "",
        "[{ address: 10.0.0.5:9000, weight: 200 }, 10.0.0.6:9000]",
    ),
    Key::section("health", "how backends are watched"),
    Key::new(
        "slow-start",
        "how long a backend of a VIP takes to its full share, or away from it",
        "at once",
        "30s",
    ),
];

pub(crate) const TARGET: &[Key] = &[
    Key::new("address", "where it listens (required)", "", "10.0.0.5:9000"),
    Key::new("weight", "its share, 0 to 65535; with 0 it gets nothing new", "100", "200"),
    Key::new("server-id", "what QUIC connection ids call it, 0 to 65535", "none", "7"),
];

pub(crate) const HEALTH: &[Key] = &[Key::section("active", "probes of their own")];

pub(crate) const ACTIVE: &[Key] = &[
    Key::new(
        "type",
        "what a probe does: http (200 to 399 is good) or tcp (a connection is)",
        "http",
        "tcp",
    ),
    Key::new("path", "what an http probe asks for", "/", "/health"),
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

pub(crate) fn read(root: &Table<'_>, mistakes: &mut Mistakes) -> Vec<Named<Upstream>> {
    let nodes = root.list("upstreams", mistakes);
    let named: Vec<_> = nodes.iter().filter_map(|node| upstream(node, mistakes)).collect();
    check_unique("upstream", &named, mistakes);
    named
}

fn upstream(node: &Node, mistakes: &mut Mistakes) -> Option<Named<Upstream>> {
    let table = Table::open(node, "an upstream", KEYS, mistakes)?;
    let name = table.require("name", mistakes, value::name);
    let algorithm =
        table.read("algorithm", mistakes, |text| value::word(text, &AlgorithmName::NAMES));
    let nodes = table.list("targets", mistakes);
    if nodes.is_empty() {
        mistakes.add(table.at, "an upstream needs `targets` with at least one");
    }
    let mut targets: Vec<Target> = Vec::new();
    for node in nodes {
        let Some(target) = target(node, mistakes) else { continue };
        if targets.iter().any(|other| other.address == target.address) {
            mistakes.add(node.at, format!("target {} stands here twice", target.address));
        }
        if let Some(id) = target.server_id
            && targets.iter().any(|other| other.server_id == Some(id))
        {
            mistakes.add(node.at, format!("server-id {id} stands here twice"));
        }
        targets.push(target);
    }
    let health = table.section("health", "`health`", HEALTH, mistakes);
    let health = health.and_then(|health| {
        health
            .section("active", "`active`", ACTIVE, mistakes)
            .map(|active| check(&active, mistakes))
    });
    let (name, algorithm) = (name?, algorithm.unwrap_or_default());
    let slow_start = table.read("slow-start", mistakes, value::timeout).unwrap_or_default();
    let value = Upstream { name: name.clone(), algorithm, targets, health, slow_start };
    Some(Named { at: node.at, name, value })
}

fn target(node: &Node, mistakes: &mut Mistakes) -> Option<Target> {
    if matches!(node.value, Value::Scalar(_)) {
        let address = scalar(node, "targets", mistakes, backend_address)?;
        return Some(Target { address, weight: Weight::default(), server_id: None });
    }
    let table = Table::open(node, "a target", TARGET, mistakes)?;
    let address = table.require("address", mistakes, backend_address)?;
    let weight = table.read("weight", mistakes, value::short).map(Weight);
    let server_id = table.read("server-id", mistakes, value::short);
    Some(Target { address, weight: weight.unwrap_or_default(), server_id })
}

fn backend_address(text: &str) -> Result<std::net::SocketAddr, String> {
    let address = value::address(text)?;
    if address.port() == 0 { Err("a target's port cannot be 0".to_owned()) } else { Ok(address) }
}

fn check(table: &Table<'_>, mistakes: &mut Mistakes) -> ActiveCheck {
    let is_tcp =
        table.read("type", mistakes, |text| value::word(text, &[("http", false), ("tcp", true)]));
    let path = table.read("path", mistakes, |text| {
        let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_path { Ok(text.to_owned()) } else { Err(format!("`{text}` is no path like /health")) }
    });
    if is_tcp == Some(true) && path.is_some() {
        mistakes.add(table.at, "a probe of type tcp has no `path`");
    }
    let path = path.unwrap_or_else(|| "/".to_owned());
    let mut count = |name, default| {
        let number = table.read(name, mistakes, |text| value::number(text, 1..=100));
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    let (rise, fall) = (count("rise", 2), count("fall", 3));
    let interval = table.read("interval", mistakes, |text| {
        let interval = value::timeout(text)?;
        if interval < INTERVAL_MIN { Err("must be at least 50ms".to_owned()) } else { Ok(interval) }
    });
    let timeout = table.read("timeout", mistakes, value::timeout);
    ActiveCheck {
        vip: table.read("vip", mistakes, value::name),
        kind: if is_tcp == Some(true) { CheckKind::Tcp } else { CheckKind::Http { path } },
        interval: interval.unwrap_or(Duration::from_secs(2)),
        timeout: timeout.unwrap_or(Duration::from_secs(1)),
        rise,
        fall,
    }
}
