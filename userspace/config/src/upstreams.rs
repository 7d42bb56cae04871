//! The `upstreams:` section.

use weir_model::{AlgorithmName, Target, Upstream, UpstreamLimits, Weight};

use crate::affinity;
use crate::health;
use crate::key::{Key, Named, Table, check_unique, scalar};
use crate::mistake::Mistakes;
use crate::node::{Node, Value};
use crate::value;

pub(crate) const KEYS: &[Key] = &[
    Key::new("name", "unique among upstreams (required)", "", "orders"),
    Key::new(
        "algorithm",
        "how a backend is chosen: round-robin, least-requests, peak-ewma, random, consistent-hash or \
         maglev",
        "round-robin",
        "least-requests",
    ),
    Key::new(
        "hash-on",
        "what consistent-hash and maglev go by: source (the client's address), path, or a map with \
         one key",
        "source",
        "{ header: x-user }",
    ),
    Key::new(
        "hash-balance",
        "the most open requests of a target in percent of its share, 101% to 10000%, for \
         consistent-hash; more go to the next one",
        "any number",
        "125%",
    ),
    Key::new(
        "targets",
        "where the backends listen, with their shares (required)",
        "",
        "[{ address: 10.0.0.5:9000, weight: 200 }, 10.0.0.6:9000]",
    ),
    Key::section("health", "how backends are watched"),
    Key::section("limits", "how much may be under way to all targets together, over all reactors"),
    Key::section("sticky", "clients stay with their backend, which a cookie names"),
    Key::new(
        "slow-start",
        "how long a backend that came up or is new takes to its full share; one of a VIP takes as long \
         away from it",
        "at once",
        "30s",
    ),
];

pub(crate) const TARGET: &[Key] = &[
    Key::new("address", "where it listens (required)", "", "10.0.0.5:9000"),
    Key::new("weight", "its share, 0 to 65535; with 0 it gets nothing new", "100", "200"),
    Key::new(
        "priority",
        "0 to 255, lower ones first: others get what is left over when less than five in seven of the \
         weight of those before them is usable; not for VIPs",
        "0",
        "1",
    ),
    Key::new(
        "zone",
        "where it is: targets in the host's own `zone` are preferred, by the same rule; not for VIPs",
        "near from everywhere",
        "eu-1a",
    ),
    Key::new("server-id", "what QUIC connection ids call it, 0 to 65535", "none", "7"),
];

pub(crate) const LIMITS: &[Key] = &[
    Key::new("connections", "open connections to targets, idle ones included", "unlimited", "1000"),
    Key::new("pending", "requests that wait for a connection", "unlimited", "1000"),
    Key::new("requests", "requests that are not answered in full", "unlimited", "5000"),
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
    let is_misspelt = table.get("algorithm").is_some() && algorithm.is_none();
    let algorithm = algorithm.unwrap_or_default();
    if !is_misspelt {
        check_hashes(&table, algorithm, mistakes);
    }
    let targets = targets(&table, mistakes);
    let health = table.section("health", "`health`", health::KEYS, mistakes);
    let name = name?;
    let value = Upstream {
        name: name.clone(),
        algorithm,
        hash_on: affinity::hash_on(&table, mistakes).unwrap_or_default(),
        hash_balance: table
            .read("hash-balance", mistakes, |text| value::percent(text, 101..=10_000)),
        targets,
        health: health.and_then(|health| health::active(&health, mistakes)),
        passive: health.and_then(|health| health::passive(&health, mistakes)),
        limits: limits(&table, mistakes),
        sticky: affinity::sticky(&table, mistakes),
        slow_start: table.read("slow-start", mistakes, value::timeout).unwrap_or_default(),
    };
    Some(Named { at: node.at, name, value })
}

/// What only some algorithms go by.
fn check_hashes(table: &Table<'_>, algorithm: AlgorithmName, mistakes: &mut Mistakes) {
    if let Some(node) = table.get("hash-on")
        && !algorithm.hashes()
    {
        mistakes.add(node.at, "`hash-on` is for `algorithm: consistent-hash` or `maglev`");
    }
    if let Some(node) = table.get("hash-balance")
        && algorithm != AlgorithmName::ConsistentHash
    {
        mistakes.add(node.at, "`hash-balance` is for `algorithm: consistent-hash`");
    }
}

fn targets(table: &Table<'_>, mistakes: &mut Mistakes) -> Vec<Target> {
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
    targets
}

fn target(node: &Node, mistakes: &mut Mistakes) -> Option<Target> {
    if matches!(node.value, Value::Scalar(_)) {
        return scalar(node, "targets", mistakes, backend_address).map(Target::new);
    }
    let table = Table::open(node, "a target", TARGET, mistakes)?;
    let address = table.require("address", mistakes, backend_address)?;
    let weight = table.read("weight", mistakes, value::short).map(Weight);
    let priority = table.read("priority", mistakes, |text| value::number(text, 0..=255));
    Some(Target {
        address,
        weight: weight.unwrap_or_default(),
        priority: priority.and_then(|priority| u8::try_from(priority).ok()).unwrap_or_default(),
        zone: table.read("zone", mistakes, value::name),
        server_id: table.read("server-id", mistakes, value::short),
    })
}

fn backend_address(text: &str) -> Result<std::net::SocketAddr, String> {
    let address = value::address(text)?;
    if address.port() == 0 { Err("a target's port cannot be 0".to_owned()) } else { Ok(address) }
}

fn limits(upstream: &Table<'_>, mistakes: &mut Mistakes) -> UpstreamLimits {
    let Some(table) = upstream.section("limits", "`limits`", LIMITS, mistakes) else {
        return UpstreamLimits::default();
    };
    let mut limit = |name| table.read(name, mistakes, |text| value::count(text, u32::MAX));
    UpstreamLimits {
        connections: limit("connections"),
        pending: limit("pending"),
        requests: limit("requests"),
    }
}
