//! The `kernel:` section.

use std::path::PathBuf;

use weir_model::{BanFile, Bans, Cidr, Kernel, KernelMode, Tunnel};

use crate::key::{Key, Table, scalar};
use crate::mistake::Mistakes;
use crate::node::{Node, Value};
use crate::value;

/// Bytes of an interface's name (IFNAMSIZ without its end).
const INTERFACE_SIZE_MAX: usize = 15;

pub(crate) const KEYS: &[Key] = &[
    Key::new("interfaces", "where the XDP program attaches", "none", "[eth0]"),
    Key::new(
        "mode",
        "auto (in the driver where it can, else generic), driver, generic or off",
        "auto",
        "driver",
    ),
    Key::section("bans", "sources that are dropped"),
    Key::new("allow", "sources that no ban touches", "none", "[10.0.0.0/8, \"2001:db8::/32\"]"),
    Key::new(
        "pin",
        "folder of a BPF file system in which bans and VIPs stay in force without a process, or off",
        Kernel::PIN_DEFAULT,
        "off",
    ),
    Key::new(
        "flows",
        "flows that can be remembered while targets change, and those of NAT",
        "65536",
        "1000000",
    ),
    Key::section("tunnel", "what packets are wrapped in on their way to backends"),
    Key::section("guard", "what floods meet"),
];

pub(crate) const TUNNEL: &[Key] = &[
    Key::new(
        "sources",
        "where they say they come from, at most one a family; the flow decides on the rest of a prefix",
        "this host's address towards the backend",
        "[172.16.0.0/16, \"2001:db8::1\"]",
    ),
    Key::new("gue-port", "the UDP port of GUE", "6080", "9886"),
];

pub(crate) const BANS: &[Key] = &[
    Key::new("capacity", "prefixes a family that may be banned", "2000000", "100000"),
    Key::new(
        "files",
        "lists loaded at start, at reload and when they change: paths, or maps of `path` and `dry-run`",
        "none",
        "[bans.txt, { path: tried.txt, dry-run: true }]",
    ),
    Key::new(
        "dry-run",
        "nothing is dropped for a ban, but counted as if: true or false",
        "false",
        "true",
    ),
];

pub(crate) const FILE: &[Key] = &[
    Key::new("path", "the list", "", "bans.txt"),
    Key::new("dry-run", "its packets are counted, but not dropped", "false", "true"),
];

pub(crate) fn read(root: &Table<'_>, mistakes: &mut Mistakes) -> Kernel {
    let Some(table) = root.section("kernel", "`kernel`", KEYS, mistakes) else {
        return Kernel::default();
    };
    let mode = table.read("mode", mistakes, |text| value::word(text, &KernelMode::NAMES));
    let mode = mode.unwrap_or(KernelMode::Auto);
    let mut interfaces = table.values("interfaces", mistakes, interface);
    let mut seen = Vec::new();
    interfaces.retain(|name| {
        !seen.contains(name) && {
            seen.push(name.clone());
            true
        }
    });
    if table.list("interfaces", mistakes).is_empty() && mode != KernelMode::Off {
        mistakes.add(table.at, "`kernel` needs `interfaces`, or `mode: off`");
    }
    Kernel {
        mode,
        interfaces,
        bans: bans(&table, mistakes),
        allow: table.values("allow", mistakes, cidr),
        pin: table
            .read("pin", mistakes, absolute_or_off)
            .unwrap_or_else(|| Some(Kernel::PIN_DEFAULT.into())),
        flows: table
            .read("flows", mistakes, |text| {
                value::number(text, 1_024..=u64::from(Kernel::FLOWS_MAX))
            })
            .and_then(|flows| u32::try_from(flows).ok())
            .unwrap_or(Kernel::FLOWS_DEFAULT),
        tunnel: tunnel(&table, mistakes),
        guard: crate::guard::read(&table, mistakes),
    }
}

fn tunnel(kernel: &Table<'_>, mistakes: &mut Mistakes) -> Tunnel {
    let default = Tunnel::default();
    let Some(table) = kernel.section("tunnel", "`tunnel`", TUNNEL, mistakes) else {
        return default;
    };
    let sources = table.values("sources", mistakes, cidr);
    let count = |is_v4: bool| sources.iter().filter(|it| it.address().is_ipv4() == is_v4).count();
    if count(true) > 1 || count(false) > 1 {
        mistakes.add(table.at, "`sources` may hold one of IPv4 and one of IPv6");
    }
    if let Some(wide) =
        sources.iter().find(|it| it.length() == 0 || it.address().is_ipv6() && it.length() < 96)
    {
        let message =
            format!("`sources`: {wide} is too wide: an IPv4 prefix, or one of IPv6 from /96 on");
        mistakes.add(table.at, message);
    }
    let port = table.read("gue-port", mistakes, |text| match value::short(text)? {
        0 => Err("must be 1 to 65535".to_owned()),
        port => Ok(port),
    });
    Tunnel { sources, gue_port: port.unwrap_or(default.gue_port) }
}

fn bans(kernel: &Table<'_>, mistakes: &mut Mistakes) -> Bans {
    let table = kernel.section("bans", "`bans`", BANS, mistakes);
    let capacity = table.and_then(|table| {
        table.read("capacity", mistakes, |text| {
            value::number(text, 1..=u64::from(Bans::CAPACITY_MAX))
        })
    });
    let capacity = capacity.and_then(|capacity| u32::try_from(capacity).ok());
    let nodes = table.map_or(&[][..], |table| table.list("files", mistakes));
    let files: Vec<BanFile> = nodes.iter().filter_map(|node| file(node, mistakes)).collect();
    let dry_run = table.and_then(|table| table.read("dry-run", mistakes, value::boolean));
    Bans {
        capacity: capacity.unwrap_or(Bans::CAPACITY_DEFAULT),
        files,
        dry_run: dry_run.unwrap_or(false),
    }
}

fn file(node: &Node, mistakes: &mut Mistakes) -> Option<BanFile> {
    let path = |text: &str| Ok(PathBuf::from(text));
    if matches!(node.value, Value::Scalar(_)) {
        return Some(BanFile { path: scalar(node, "files", mistakes, path)?, dry_run: false });
    }
    let table = Table::open(node, "a list of bans", FILE, mistakes)?;
    let dry_run = table.read("dry-run", mistakes, value::boolean).unwrap_or(false);
    Some(BanFile { path: table.require("path", mistakes, path)?, dry_run })
}

/// A folder's absolute path, or `off`.
pub(crate) fn absolute_or_off(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "off" => Ok(None),
        _ if text.starts_with('/') => Ok(Some(text.into())),
        _ => Err(format!("`{text}` is neither an absolute path nor `off`")),
    }
}

fn interface(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    if (1..=INTERFACE_SIZE_MAX).contains(&text.len()) && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no interface name: 1 to {INTERFACE_SIZE_MAX} characters like eth0"
        ))
    }
}

fn cidr(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}
