//! Which stage decides what for a flow, asked of the maps in force.

use std::fmt::Write;
use std::net::SocketAddr;

use weir_abi::vip::{FlowKey, LOCAL, MOVING, NOWHERE, filter_bit, flow_hash, slot_of, source_hash};
use weir_model::{HashBy, Vip};

use super::{Vips, maps};
use crate::{Explained, FlowQuestion};

impl Vips {
    /// The stages from the VIP on.
    pub(crate) fn explain(&self, asked: FlowQuestion) -> Explained {
        let mut stages = Vec::new();
        let backend = self.explain_vip(asked, &mut stages);
        Explained { stages, backend }
    }

    fn explain_vip(
        &self,
        asked: FlowQuestion,
        stages: &mut Vec<(&'static str, String)>,
    ) -> Option<SocketAddr> {
        let Some((vip, key)) = self.vip_of(asked) else {
            let bit = filter_bit(maps::address(asked.destination.ip()));
            stages.push((
                "vip",
                format!("{} is no VIP (filter bit {bit}): passed on", asked.destination),
            ));
            return None;
        };
        stages.push(("vip", format!("{} ({vip}), forward {}", vip.name, vip.forward.name())));
        let table = self.tables.get(key)?;
        let (source, destination) =
            (maps::address(asked.source.ip()), maps::address(asked.destination.ip()));
        let ports = u32::from(asked.source.port()) << 16 | u32::from(asked.destination.port());
        let hash = match vip.hash {
            HashBy::Source => source_hash(source),
            HashBy::FiveTuple | HashBy::QuicCid => {
                flow_hash(source, destination, ports, asked.protocol.number())
            }
        };
        let slot = slot_of(hash);
        let held = table.slots().get(slot);
        let now = held & !MOVING;
        let mut text = format!("hash {hash:#010x} by {} is slot {slot}: ", vip.hash.name());
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", self.name_of(now));
        let mut chosen = now;
        if held & MOVING != 0
            && let Some(before) = table.slots().before(slot)
        {
            let _ = write!(text, ", moving from {}", self.name_of(before));
            stages.push(("slot", text));
            let key =
                FlowKey { source, destination, ports, protocol: asked.protocol.number().into() };
            let known = self.maps.flow(key).map(|flow| flow.backend);
            let (next, why) = match known {
                Some(known) => (known, "remembered at"),
                None => (
                    before,
                    "not remembered: a new connection goes to the slot's backend, this flow to",
                ),
            };
            stages.push(("flow", format!("{why} {}", self.name_of(next))));
            chosen = next;
        } else {
            stages.push(("slot", text));
        }
        self.explain_forward(vip, chosen, stages)
    }

    fn explain_forward(
        &self,
        vip: &Vip,
        chosen: u16,
        stages: &mut Vec<(&'static str, String)>,
    ) -> Option<SocketAddr> {
        let text = match (chosen, self.known.get(&chosen)) {
            (LOCAL, _) => "to the listeners of this host".to_owned(),
            (NOWHERE, _) | (_, None) => "dropped: no backend".to_owned(),
            (_, Some(backend)) => {
                let state = if backend.is_down { ", which is down" } else { "" };
                let source = match vip.forward {
                    weir_model::Forward::Ipip | weir_model::Forward::Gue => {
                        format!(" from {}", backend.source)
                    }
                    weir_model::Forward::L2 | weir_model::Forward::Nat => String::new(),
                };
                format!("{}{source} to {}{state}", vip.forward.name(), backend.address)
            }
        };
        stages.push(("forward", text));
        self.known.get(&chosen).map(|backend| backend.address)
    }

    fn vip_of(&self, asked: FlowQuestion) -> Option<&(Vip, super::TableKey)> {
        let is_at =
            |vip: &Vip| vip.address == asked.destination.ip() && vip.protocol == asked.protocol;
        let exact = |vip: &Vip| vip.port.map(u16::from) == Some(asked.destination.port());
        let exact = self.vips.iter().find(|(vip, _)| is_at(vip) && exact(vip));
        exact.or_else(|| self.vips.iter().find(|(vip, _)| is_at(vip) && vip.port.is_none()))
    }

    fn name_of(&self, number: u16) -> String {
        match (number, self.known.get(&number)) {
            (LOCAL, _) => "this host".to_owned(),
            (_, Some(backend)) => backend.address.to_string(),
            _ => "nobody".to_owned(),
        }
    }
}
