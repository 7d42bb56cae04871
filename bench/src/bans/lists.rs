//! The lists that are loaded.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

use weir_model::Cidr;

/// The source that is banned in every list.
pub(crate) const BANNED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// A source that is in none, with all of its /16.
pub(crate) const CLEAN: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);

/// Addresses in random order.
pub(crate) struct Prefixes(pub(crate) Vec<Ipv4Addr>);

impl Prefixes {
    /// So many addresses scattered over the whole of unicast, always the same, [`BANNED`] among them.
    pub(crate) fn scattered(count: usize) -> Self {
        let (mut state, mut seen) = (7u64, HashSet::from([u32::from(BANNED)]));
        let mut addresses = vec![BANNED];
        while addresses.len() < count {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let address = (state >> 32) as u32;
            let first = address >> 24;
            let is_kept = (1..224).contains(&first)
                && ![10, 127].contains(&first)
                && address >> 16 != u32::from(CLEAN) >> 16;
            if is_kept && seen.insert(address) {
                addresses.push(address.into());
            }
        }
        Self(addresses)
    }

    pub(crate) fn cidrs(&self, count: usize) -> Vec<Cidr> {
        self.0.iter().take(count).map(|&address| Cidr::host(address.into())).collect()
    }

    /// A line each.
    pub(crate) fn lines(&self) -> String {
        let mut text = String::with_capacity(self.0.len() * 16);
        // Writing to a String cannot fail.
        self.0.iter().for_each(|address| {
            let _ = writeln!(text, "{address}");
        });
        text
    }

    /// As `ipset restore` reads it.
    pub(crate) fn ipset(&self) -> String {
        let size = self.0.len() * 2;
        let mut text = format!("create bad hash:net family inet hashsize 1048576 maxelem {size}\n");
        self.0.iter().for_each(|address| {
            let _ = writeln!(text, "add bad {address}");
        });
        text
    }

    /// As `nft -f` reads it: a table whose chain drops what is in an interval set, where `hook` says.
    pub(crate) fn nft(&self, hook: &str) -> String {
        let elements: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        format!(
            "table {family} bench {{\n set bad {{ type ipv4_addr; flags interval; elements = {{ {} }} }}\n \
             chain in {{ {hook} ip saddr @bad counter drop; }}\n}}\n",
            elements.join(","),
            family = if hook.contains("ingress") { "netdev" } else { "ip" }
        )
    }
}
