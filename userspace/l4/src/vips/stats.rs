//! What the packet path counted for VIPs and backends.

use std::collections::HashMap;

use weir_abi::vip::{BackendCounter, Drops};
use weir_model::Vip;

use super::{Vips, vip_key};
use crate::{BackendStats, VipStats};

const DROPS: [(Drops, &str); 4] = [
    (Drops::NoBackend, "no_backend"),
    (Drops::TtlExceeded, "ttl_exceeded"),
    (Drops::NoRoute, "no_route"),
    (Drops::TooBig, "too_big"),
];

impl Vips {
    /// Every VIP in force.
    pub(crate) fn stats(&self) -> Vec<VipStats> {
        // One that serves many VIPs is asked for once.
        let mut counters = HashMap::new();
        self.vips.iter().map(|(vip, key)| self.vip_stats(vip, key, &mut counters)).collect()
    }

    fn vip_stats(
        &self,
        vip: &Vip,
        key: &super::TableKey,
        counters: &mut HashMap<u16, BackendCounter>,
    ) -> VipStats {
        let counter = self.vip_numbers.of(&vip_key(vip)).map(|it| self.maps.vip_counter(it));
        let counter = counter.unwrap_or_default();
        let table = self.tables.get(key);
        let shares = table.into_iter().flat_map(|table| &table.shares);
        let mut backends: Vec<_> = shares
            .filter_map(|(&number, &slots)| {
                let known = self.known.get(&number)?;
                let counter =
                    *counters.entry(number).or_insert_with(|| self.maps.backend_counter(number));
                Some(BackendStats {
                    address: known.address,
                    is_up: !known.is_down,
                    slots,
                    packets: counter.packets,
                    bytes: counter.bytes,
                    flows: counter.flows,
                    moving_packets: counter.moving,
                })
            })
            .collect();
        backends.sort_unstable_by_key(|backend| backend.address);
        let drop = |(reason, name): (Drops, &'static str)| {
            (name, counter.drops.get(reason as usize).copied().unwrap_or(0))
        };
        VipStats {
            vip: vip.clone(),
            is_local: self.local.contains(&vip.name),
            packets: counter.packets,
            bytes: counter.bytes,
            flows: counter.flows,
            moving_packets: counter.moving,
            drops: DROPS.into_iter().map(drop).collect(),
            moving_slots: table.map_or(0, super::pool::Table::moving),
            backends,
        }
    }
}
