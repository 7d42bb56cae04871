//! Maglev: by a hash, from a table of slots. Whoever cannot serve is replaced slot by slot, so that
//! nothing else moves.

use weir_model::AlgorithmName;

use crate::hash::mix;
use crate::maglev::{asked, maglev};
use crate::{Algorithm, AlgorithmSpec, Candidates};

pub(crate) const SPEC: AlgorithmSpec = AlgorithmSpec {
    name: AlgorithmName::Maglev,
    summary: "by the hash of `hash-on`, from a Maglev table: exact shares, few requests move when \
              targets change",
    build: |setting| {
        let slots = if setting.members.len() > MEMBERS_FEW { SLOTS_MANY } else { SLOTS };
        Box::new(MaglevPick { slots: maglev(setting.members, slots).unwrap_or_default() })
    },
};

/// Slots of a table, a prime: more than a hundred for each of few members.
const SLOTS: u32 = 65_537;
/// Up to so many members are few.
const MEMBERS_FEW: usize = 600;
/// Slots of a table of many members, a prime.
const SLOTS_MANY: u32 = 655_373;

#[derive(Debug)]
struct MaglevPick {
    /// The member of each slot; empty where nobody has a share.
    slots: Vec<u16>,
}

impl Algorithm for MaglevPick {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let key = candidates.key();
        let slot = ((u128::from(key) * self.slots.len() as u128) >> 64) as usize;
        let member = |slot: usize| self.slots.get(slot).map(|&member| usize::from(member));
        // A member that only just came up takes the same keys each time, more and more of them.
        let takes = |index: &usize| candidates.takes(*index, mix(key ^ *index as u64));
        let first = member(slot)?;
        if takes(&first) {
            return Some(first);
        }
        let mut others = asked(slot, self.slots.len()).filter_map(member);
        others.find(|other| *other != first && takes(other)).or_else(|| {
            // Almost nobody is usable: whoever the slot alone leads to.
            let usable = (0..candidates.len()).filter(|&index| candidates.is_usable(index));
            usable.max_by_key(|&index| mix(mix(slot as u64) ^ index as u64))
        })
    }
}
