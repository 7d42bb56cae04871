//! The `kernel:` section.

use weir_model::{Bans, Cidr, Kernel, KernelMode};

use crate::key::{Key, Table};
use crate::mistake::Mistakes;
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
];

pub(crate) const BANS: &[Key] = &[
    Key::new("capacity", "prefixes a family that the kernel maps hold", "2000000", "100000"),
    Key::new(
        "files",
        "lists loaded at start and reload: one CIDR a line, `#` comments",
        "none",
        "[bans.txt]",
    ),
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
    }
}

fn bans(kernel: &Table<'_>, mistakes: &mut Mistakes) -> Bans {
    let table = kernel.section("bans", "`bans`", BANS, mistakes);
    let capacity = table.and_then(|table| {
        table.read("capacity", mistakes, |text| {
            value::number(text, 1..=u64::from(Bans::CAPACITY_MAX))
        })
    });
    let capacity = capacity.and_then(|capacity| u32::try_from(capacity).ok());
    let files = table.map(|table| table.values("files", mistakes, |text| Ok(text.into())));
    Bans { capacity: capacity.unwrap_or(Bans::CAPACITY_DEFAULT), files: files.unwrap_or_default() }
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
