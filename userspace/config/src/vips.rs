//! The `vips:` section.

use std::net::IpAddr;
use std::num::NonZeroU16;

use weir_model::{Forward, HashBy, Kernel, KernelMode, Protocol, Upstream, Vip};

use crate::key::{Key, Named, Table, check_unique};
use crate::mistake::Mistakes;
use crate::node::Node;
use crate::routes::find;
use crate::value;

/// As many as the kernel's maps have room for.
const VIPS_MAX: usize = 16_384;

pub(crate) const KEYS: &[Key] = &[
    Key::new("name", "unique among VIPs (required)", "", "dns"),
    Key::new(
        "address",
        "ADDRESS:PORT/PROTOCOL, tcp or udp; port `*` is all ports (required)",
        "",
        "203.0.113.10:53/udp",
    ),
    Key::new("upstream", "whose backends get the packets (required)", "", "dns-servers"),
    Key::new(
        "forward",
        "how packets get there: ipip, gue, l2 (all three answered directly) or nat (answered through us)",
        "ipip",
        "gue",
    ),
    Key::new(
        "hash",
        "what decides on the backend: 5-tuple, source (the client's address) or quic-cid",
        "5-tuple",
        "source",
    ),
    Key::new(
        "idle",
        "how long a silent flow keeps its backend while targets change, 1s to 24h",
        "15m, udp 60s",
        "1h",
    ),
];

pub(crate) fn read(
    root: &Table<'_>,
    kernel: &Kernel,
    upstreams: &[Named<Upstream>],
    mistakes: &mut Mistakes,
) -> Vec<Vip> {
    let nodes = root.list("vips", mistakes);
    if nodes.len() > VIPS_MAX {
        mistakes.add(root.at, format!("more than {VIPS_MAX} VIPs"));
    }
    let vips: Vec<_> = nodes.iter().filter_map(|node| vip(node, upstreams, mistakes)).collect();
    check_unique("VIP", &vips, mistakes);
    check_addresses(&vips, upstreams, mistakes);
    check_probes(&vips, upstreams, mistakes);
    if let Some(first) = vips.first()
        && (kernel.mode == KernelMode::Off && kernel.interfaces.is_empty())
    {
        mistakes.add(first.at, "VIPs need `kernel` with `interfaces`");
    }
    vips.into_iter().map(|named| named.value).collect()
}

fn vip(node: &Node, upstreams: &[Named<Upstream>], mistakes: &mut Mistakes) -> Option<Named<Vip>> {
    let table = Table::open(node, "a VIP", KEYS, mistakes)?;
    let name = table.require("name", mistakes, value::name);
    let address = table.require("address", mistakes, address);
    let upstream = table.require("upstream", mistakes, |text| find("upstream", text, upstreams));
    let forward = table.read("forward", mistakes, |text| value::word(text, &Forward::NAMES));
    let hash = table.read("hash", mistakes, |text| value::word(text, &HashBy::NAMES));
    let idle = table.read("idle", mistakes, |text| {
        let idle = value::timeout(text)?;
        if idle.as_secs() == 0 { Err("must be at least 1s".to_owned()) } else { Ok(idle) }
    });
    let (name, (address, port, protocol), upstream) = (name?, address?, upstream?);
    let hash = hash.unwrap_or(HashBy::FiveTuple);
    if hash == HashBy::QuicCid && protocol != Protocol::Udp {
        mistakes.add(node.at, "`hash: quic-cid` is for udp");
    }
    let idle_default = if protocol == Protocol::Udp { Vip::IDLE_UDP } else { Vip::IDLE_TCP };
    let value = Vip {
        name: name.clone(),
        address,
        port,
        protocol,
        upstream,
        forward: forward.unwrap_or(Forward::Ipip),
        hash,
        idle: idle.unwrap_or(idle_default),
    };
    Some(Named { at: node.at, name, value })
}

/// `203.0.113.10:53/udp`, `[2001:db8::1]:*/tcp`; without protocol it is tcp.
fn address(text: &str) -> Result<(IpAddr, Option<NonZeroU16>, Protocol), String> {
    let refused = || {
        format!("`{text}` is no address of a VIP like 203.0.113.10:53/udp or [2001:db8::1]:*/tcp")
    };
    let (socket, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = value::word(protocol, &Protocol::NAMES)
        .map_err(|error| format!("{}: {error}", refused()))?;
    let (address, port) = socket.rsplit_once(':').ok_or_else(refused)?;
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let parsed: IpAddr = match bare {
        Some(inner) => IpAddr::V6(inner.parse().map_err(|_| refused())?),
        None => IpAddr::V4(address.parse().map_err(|_| refused())?),
    };
    if parsed.is_unspecified() || parsed.is_multicast() || parsed.is_loopback() {
        return Err(format!("{address} is no address that clients could send to"));
    }
    let port = match port {
        "*" => None,
        _ => Some(port.parse::<NonZeroU16>().map_err(|_| refused())?),
    };
    Ok((parsed, port, protocol))
}

/// What VIPs must not have in common with each other and with targets.
fn check_addresses(vips: &[Named<Vip>], upstreams: &[Named<Upstream>], mistakes: &mut Mistakes) {
    let mut seen = std::collections::HashMap::new();
    let addresses: std::collections::HashMap<IpAddr, &str> =
        vips.iter().map(|vip| (vip.value.address, vip.name.as_str())).collect();
    for Named { at, name, value: vip } in vips {
        if let Some(first) = seen.insert((vip.address, vip.port, vip.protocol), name) {
            mistakes.add(*at, format!("{vip} is the address of VIP `{first}` already"));
        }
        let Some(upstream) = upstreams.get(vip.upstream) else { continue };
        for target in &upstream.value.targets {
            let ip = target.address.ip();
            if let Some(other) = addresses.get(&ip) {
                let message = format!("target {} has the address of VIP `{other}`", target.address);
                mistakes.add(*at, message);
            }
            let may_differ = matches!(vip.forward, Forward::Ipip | Forward::Gue);
            if ip.is_ipv4() != vip.address.is_ipv4() && !(may_differ && ip.is_ipv6()) {
                let message = format!(
                    "target {} of {vip} by {}: IPv4 goes to IPv4, IPv6 to IPv6, and only ipip and gue \
                     bring IPv4 to IPv6",
                    target.address,
                    vip.forward.name()
                );
                mistakes.add(*at, message);
            }
        }
    }
}

/// Probes that go by way of a VIP must have one whose packets they can be.
fn check_probes(vips: &[Named<Vip>], upstreams: &[Named<Upstream>], mistakes: &mut Mistakes) {
    for (index, Named { at, name, value: upstream }) in upstreams.iter().enumerate() {
        let Some(wanted) = upstream.health.as_ref().and_then(|check| check.vip.as_ref()) else {
            continue;
        };
        let Some(vip) = vips.iter().find(|vip| vip.name == *wanted).map(|vip| &vip.value) else {
            mistakes.add(*at, format!("no VIP `{wanted}`, which probes of `{name}` are to take"));
            continue;
        };
        if vip.upstream != index {
            mistakes.add(*at, format!("VIP `{wanted}` has another upstream than `{name}`"));
        }
        if vip.forward == Forward::Nat {
            mistakes.add(*at, format!("VIP `{wanted}` is forwarded by nat: leave out `vip`"));
        }
        for target in &upstream.targets {
            if target.address.is_ipv4() != vip.address.is_ipv4() {
                let message = format!(
                    "target {} is of another family than VIP `{wanted}`: leave out `vip`",
                    target.address
                );
                mistakes.add(*at, message);
            }
        }
    }
}
