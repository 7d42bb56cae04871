//! Maglev tables (Eisenbud et al., NSDI 2016): every member claims slots in an order of its own, in turns
//! by weight, so that tables of almost the same members are almost the same.
//!
//! Two things are other than in the paper. With many members, claims for the last free slots are what
//! makes tables differ, because each of them tries hundreds of slots that others have; so only nine in
//! ten are claimed, and each of the others asks members that its own number leads to, and takes the
//! first that has not too many. And a member that is down is replaced slot by slot in the same way, so
//! that nothing else moves.
//!
//! A table follows from its members alone: balancers that know the same ones agree without talking.

use std::net::SocketAddr;

use crate::hash::{STEP, mix, of_address};

/// Turns in which slots are claimed, at most: with a few large shares several are claimed at once.
const TURNS_MAX: u32 = 4_096;
/// Of ten slots, those that many members claim.
const CLAIMED: u32 = 9;
/// Up to so many members all slots are claimed.
const FEW: usize = 32;
/// A fiftieth more than its share is not too many for a member.
const SLACK: u32 = 50;
/// Members that a slot asks before it goes to whoever has room.
const ASKED_MAX: usize = 64;

/// A member with its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Who it is; its claims follow from that.
    pub address: SocketAddr,
    /// Its share; 0 has no slot.
    pub weight: u32,
    /// Whether its slots go to others.
    pub is_down: bool,
}

/// The member of each slot, as an index into `members`; `slots` must be a prime. `None` where no member
/// that is up has a share.
#[must_use]
pub fn maglev(members: &[Member], slots: u32) -> Option<Vec<u16>> {
    if !members.iter().any(|member| member.weight > 0 && !member.is_down) {
        return None;
    }
    let quotas = quotas(members, slots)?;
    // In the order of addresses: another order of the configuration is no other table.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&index| members.get(index).map(|member| member.address));
    let mut claims: Vec<Claims> = order
        .iter()
        .filter_map(|&index| {
            let (member, quota) = (members.get(index)?, *quotas.get(index)?);
            let index = u16::try_from(index).ok()?;
            (quota > 0).then(|| Claims::of(member.address, index, quota, slots))
        })
        .collect();
    let mut table = Table::new(slots);
    let tenths = if claims.len() > FEW { CLAIMED } else { 10 };
    let largest = claims.iter().map(|claims| claims.due(tenths)).max().unwrap_or(0);
    let turns = largest.clamp(1, TURNS_MAX);
    // Whoever is due more than one in a turn has several; nobody's last one is left for later.
    let mut credits: Vec<(u32, u32)> =
        claims.iter().map(|claims| (turns - 1, claims.due(tenths))).collect();
    for _ in 0..turns {
        for (claims, (credit, due)) in claims.iter_mut().zip(&mut credits) {
            *credit += *due;
            while *credit >= turns {
                *credit -= turns;
                claims.claim(&mut table, slots);
            }
        }
    }
    table.share_out(&claims, members.len());
    table.replace(members);
    Some(table.members)
}

/// How many slots each member gets: in proportion, the rest to the largest remainders.
fn quotas(members: &[Member], slots: u32) -> Option<Vec<u32>> {
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    if total == 0 {
        return None;
    }
    let exact = |member: &Member| u64::from(member.weight) * u64::from(slots);
    let mut quotas: Vec<u32> =
        members.iter().map(|member| (exact(member) / total) as u32).collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    let remainder = |index: &usize| members.get(*index).map_or(0, |member| exact(member) % total);
    let address = |index: &usize| members.get(*index).map(|member| member.address);
    order.sort_by(|a, b| remainder(b).cmp(&remainder(a)).then_with(|| address(a).cmp(&address(b))));
    let given: u32 = quotas.iter().sum();
    for index in order.into_iter().take((slots - given) as usize) {
        if let Some(quota) = quotas.get_mut(index) {
            *quota += 1;
        }
    }
    Some(quotas)
}

/// A table that is being filled.
struct Table {
    members: Vec<u16>,
    /// A bit a slot: small enough for the first cache.
    taken: Vec<u64>,
}

impl Table {
    fn new(slots: u32) -> Self {
        Self { members: vec![0; slots as usize], taken: vec![0; slots as usize / 64 + 1] }
    }

    fn is_taken(&self, slot: usize) -> bool {
        self.taken.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// The slots that nobody claimed.
    fn free(&self) -> Vec<usize> {
        let mut free = Vec::new();
        for (index, word) in self.taken.iter().enumerate() {
            let mut rest = !word;
            while rest != 0 {
                let slot = index * 64 + rest.trailing_zeros() as usize;
                if slot < self.members.len() {
                    free.push(slot);
                }
                rest &= rest - 1;
            }
        }
        free
    }

    /// Gives the slots that nobody claimed to members that their numbers lead to.
    fn share_out(&mut self, claims: &[Claims], members: usize) {
        let free = self.free();
        if free.is_empty() {
            return;
        }
        // How many more each may have, by index.
        let mut room = vec![0; members];
        for claims in claims {
            if let Some(room) = room.get_mut(usize::from(claims.index)) {
                *room =
                    (claims.quota + claims.quota.div_ceil(SLACK)).saturating_sub(claims.claimed);
            }
        }
        let claimed = self.members.clone();
        let mut anyone = claims.iter().map(|claims| claims.index).cycle();
        for slot in free {
            let has_room =
                |member: &u16| room.get(usize::from(*member)).is_some_and(|room| *room > 0);
            let mut asked = asked(slot, claimed.len()).filter(|&at| self.is_taken(at));
            let found = asked.find_map(|at| claimed.get(at).copied().filter(has_room));
            // There is room for more than all slots, so somebody has some.
            let Some(member) = found.or_else(|| anyone.find(has_room)) else { return };
            if let Some(room) = room.get_mut(usize::from(member)) {
                *room -= 1;
            }
            if let Some(place) = self.members.get_mut(slot) {
                *place = member;
            }
        }
    }

    /// Gives the slots of members that are down to others.
    fn replace(&mut self, members: &[Member]) {
        let is_up = |member: &u16| {
            members.get(usize::from(*member)).is_some_and(|it| !it.is_down && it.weight > 0)
        };
        let all_are_up = members.iter().all(|member| !member.is_down);
        let Some(anyone) = (0u16..).zip(members).map(|(index, _)| index).find(is_up) else {
            return;
        };
        if all_are_up {
            return;
        }
        let before = self.members.clone();
        for (slot, place) in self.members.iter_mut().enumerate().filter(|(_, it)| !is_up(it)) {
            let mut asked = asked(slot, before.len());
            let found = asked.find_map(|at| before.get(at).copied().filter(is_up));
            *place = found.unwrap_or(anyone);
        }
    }
}

/// The slots that a slot's number leads to, whose members it asks.
pub(crate) fn asked(slot: usize, slots: usize) -> impl Iterator<Item = usize> {
    let next = move |number: &u64| Some(mix(number.wrapping_add(STEP)));
    let numbers = std::iter::successors(Some(mix(slot as u64)), next).skip(1).take(ASKED_MAX);
    numbers.map(move |number| (number % slots as u64) as usize)
}

/// The slots that a member wants, one after the other.
struct Claims {
    index: u16,
    quota: u32,
    claimed: u32,
    next: u32,
    skip: u32,
}

impl Claims {
    fn of(address: SocketAddr, index: u16, quota: u32, slots: u32) -> Self {
        let hash = of_address(address);
        let next = (hash >> 32) as u32 % slots;
        let skip = hash as u32 % (slots - 1) + 1;
        Self { index, quota, claimed: 0, next, skip }
    }

    /// How many slots it claims: so many tenths of its share, at least one.
    fn due(&self, tenths: u32) -> u32 {
        (self.quota * tenths / 10).max(1)
    }

    /// Claims the first of its slots that is free.
    fn claim(&mut self, table: &mut Table, slots: u32) {
        loop {
            let slot = self.next;
            self.next += self.skip;
            if self.next >= slots {
                self.next -= slots;
            }
            let Some(word) = table.taken.get_mut(slot as usize / 64) else { return };
            let bit = 1 << (slot % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.claimed += 1;
                if let Some(member) = table.members.get_mut(slot as usize) {
                    *member = self.index;
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: u32 = 65_537;

    fn members(weights: &[u32]) -> Vec<Member> {
        let member = |(last, &weight)| Member {
            address: SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + last), 80)),
            weight,
            is_down: false,
        };
        (0u32..).zip(weights).map(member).collect()
    }

    fn counts(table: &[u16], members: usize) -> Vec<usize> {
        let mut counts = vec![0; members];
        table.iter().for_each(|&member| counts[usize::from(member)] += 1);
        counts
    }

    /// Slots that changed, of those that need not.
    fn disturbed(before: &[u16], after: &[u16], gone: u16) -> usize {
        before
            .iter()
            .zip(after)
            .filter(|(before, after)| **before != gone && before != after)
            .count()
    }

    #[test]
    fn every_member_gets_about_its_share() {
        for weights in [&[1][..], &[100, 100, 100], &[1, 2, 3, 4], &[65_535, 1], &[0, 5, 0, 5]] {
            let table = maglev(&members(weights), SLOTS).unwrap();
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts(&table, weights.len()).into_iter().zip(weights) {
                let exact = f64::from(*weight) * f64::from(SLOTS) / f64::from(total);
                assert!(
                    (count as f64 - exact).abs() <= 0.05 * exact + 1.0,
                    "{weights:?}: {count} of {exact}"
                );
            }
        }
        assert_eq!(maglev(&members(&[0, 0]), SLOTS), None);
        assert_eq!(maglev(&[], SLOTS), None);
    }

    #[test]
    fn order_does_not_matter() {
        let mut members = members(&[10, 20, 30, 40, 50]);
        let address = |members: &[Member], slot: u16| members[usize::from(slot)].address;
        let before = maglev(&members, SLOTS).unwrap();
        let before: Vec<_> = before.iter().map(|&slot| address(&members, slot)).collect();
        members.reverse();
        let after = maglev(&members, SLOTS).unwrap();
        let after: Vec<_> = after.iter().map(|&slot| address(&members, slot)).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn the_loss_of_one_of_a_hundred_disturbs_few_others() {
        let mut members = members(&[100; 100]);
        let before = maglev(&members, SLOTS).unwrap();
        let mut sum = 0;
        for gone in 0..100 {
            members[gone].is_down = true;
            let after = maglev(&members, SLOTS).unwrap();
            assert_eq!(disturbed(&before, &after, gone as u16), 0, "{gone}");
            assert!(after.iter().all(|&member| usize::from(member) != gone), "{gone}");
            members[gone] = Member { weight: 0, is_down: false, ..members[gone] };
            let after = maglev(&members, SLOTS).unwrap();
            sum += disturbed(&before, &after, gone as u16);
            members[gone].weight = 100;
        }
        // One in a hundred is gone; on the average less than half a percent more changes.
        assert!(sum as f64 / 100.0 <= 0.005 * f64::from(SLOTS), "{sum}");
    }

    #[test]
    fn a_weight_that_changes_a_little_moves_little() {
        let mut members = members(&[100; 10]);
        let before = maglev(&members, SLOTS).unwrap();
        members[3].weight = 110;
        let after = maglev(&members, SLOTS).unwrap();
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        // It gains 0.9 % of the slots.
        assert!(moved as f64 <= 0.03 * f64::from(SLOTS), "{moved}");
    }
}
