//! Tables of slots: built from members, changed when they change, settled by time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use weir_abi::vip::{LOCAL, NOWHERE, SLOTS, ServerKey, TICK_BITS};
use weir_balance::{Member, maglev};
use weir_model::Vip;
use weir_vips::{Aim, Ramp};

use super::maps::{self, FreshTable, KnownBackend};
use super::{TableKey, Vips, host, too_many, vip_key};
use crate::{Error, Pool, PoolMember, Wanted};

/// Tables that are built before the kernel is told of them: each needs a file descriptor until then.
const FRESH_MAX: usize = 512;
/// A table with what it was made of.
pub(crate) struct Table {
    number: u16,
    memory: maps::Table,
    ramp: Ramp,
    aims: Vec<Aim>,
    /// What the slots were last given by.
    members: Vec<Member>,
    /// Backends with how many slots they have; none is one with flows from slots that move.
    pub(crate) shares: BTreeMap<u16, usize>,
    moving: usize,
    /// Ticks after which a silent flow is forgotten.
    idle: u32,
}

impl Table {
    fn new(number: u16, idle: Duration, memory: maps::Table, shares: BTreeMap<u16, usize>) -> Self {
        Self {
            number,
            memory,
            ramp: Ramp::default(),
            aims: Vec::new(),
            members: Vec::new(),
            shares,
            moving: 0,
            idle: ticks(idle),
        }
    }

    /// One that another process left.
    pub(crate) fn adopted(number: u16, idle: Duration, memory: maps::Table) -> Self {
        let (shares, moving) = (memory.slots().shares(), memory.slots().moving_count());
        Self { moving, ..Self::new(number, idle, memory, shares) }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn slots(&self) -> weir_vips::Slots<'_> {
        self.memory.slots()
    }

    pub(crate) fn moving(&self) -> usize {
        self.moving
    }

    /// Whether another table would send every packet where this one does.
    pub(crate) fn is_like(&self, other: Option<&Self>) -> bool {
        let Some(other) = other else { return false };
        self.moving == 0
            && other.moving == 0
            && (0..SLOTS).all(|slot| self.slots().get(slot) == other.slots().get(slot))
    }
}

/// A table that the kernel does not know yet, with its shares.
type Made = (FreshTable, BTreeMap<u16, usize>);

/// A table that is to be made.
struct Plan {
    key: TableKey,
    number: u16,
    idle: Duration,
    ramp: Ramp,
    aims: Vec<Aim>,
    members: Vec<Member>,
    numbers: Vec<u16>,
}

impl Plan {
    fn build(&self) -> Result<Made, Error> {
        let slots = slots_of(&self.members, &self.numbers);
        let mut counts = vec![0; usize::from(NOWHERE) + 1];
        for slot in &slots {
            if let Some(count) = counts.get_mut(usize::from(*slot)) {
                *count += 1;
            }
        }
        let shares = self.numbers.iter().filter_map(|&number| {
            let count = counts.get(usize::from(number)).copied().filter(|count| *count > 0);
            count.map(|count| (number, count))
        });
        Ok((FreshTable::create(&slots)?, shares.collect()))
    }
}

impl Vips {
    /// Brings every table to what its pool is now.
    pub(super) fn balance(
        &mut self,
        vips: &[(Vip, TableKey)],
        wanted: &Wanted,
        now: Instant,
    ) -> Result<(), Error> {
        self.note_members(vips, wanted)?;
        let (mut fresh, mut held) = (Vec::new(), Vec::new());
        let mut seen = std::collections::HashSet::new();
        for (vip, key) in vips {
            if !seen.insert(key) {
                continue;
            }
            let Some(pool) = wanted.pools.get(vip.upstream) else { continue };
            if !self.tables.contains_key(key) {
                self.split_off(vip, key)?;
            }
            match self.tables.contains_key(key) {
                true => held.push((key, pool, self.local.contains(&vip.name))),
                false => fresh.push(self.plan(key, vip, pool, now)?),
            }
        }
        // What may fail for want of memory comes first.
        for plans in fresh.chunks(FRESH_MAX) {
            self.make(plans)?;
        }
        for (key, pool, is_local) in held {
            self.rebalance(key, pool, is_local, now)?;
        }
        for (vip, key) in vips {
            if let Some(pool) = wanted.pools.get(vip.upstream) {
                self.note_servers(key, &pool.members)?;
            }
        }
        Ok(())
    }

    /// Gives every member a number, and writes what is known of it.
    fn note_members(&mut self, vips: &[(Vip, TableKey)], wanted: &Wanted) -> Result<(), Error> {
        let used: BTreeSet<usize> = vips.iter().map(|(vip, _)| vip.upstream).collect();
        let pools = || used.iter().filter_map(|&index| wanted.pools.get(index));
        // A backend of several pools is down when all of them say so.
        let up: std::collections::HashSet<SocketAddr> = pools()
            .flat_map(|pool| &pool.members)
            .filter(|it| it.is_up)
            .map(|it| it.address)
            .collect();
        let is_same_tunnel = self.tunnel.as_ref() == Some(&wanted.tunnel);
        self.tunnel = Some(wanted.tunnel.clone());
        let mut noted = std::collections::HashSet::new();
        self.members.clear();
        for member in pools().flat_map(|pool| &pool.members) {
            if !noted.insert(member.address) {
                continue;
            }
            let (number, is_new) = self.backends.give(&member.address).ok_or_else(too_many)?;
            self.members.insert(number);
            let held = self.known.get(&number).copied();
            let (source, spread) = match held {
                Some(held) if !held.source.is_unspecified() && is_same_tunnel => {
                    (held.source, held.spread)
                }
                _ => host::source(member.address, &wanted.tunnel.sources),
            };
            if is_new {
                self.stamp = self.stamp.wrapping_add(1).max(1);
                self.maps.reset_backend(number);
                host::wake(member.address.ip());
            }
            let stamp = held.map_or(self.stamp, |held| held.stamp);
            let is_down = !up.contains(&member.address);
            let next = KnownBackend { address: member.address, source, spread, stamp, is_down };
            if held != Some(next) {
                self.maps.set_backend(number, &next);
                self.known.insert(number, next);
            }
        }
        Ok(())
    }

    /// A VIP that is to have another table, which is not there yet, gets one like that it has: its flows
    /// stay where they are, whatever changes then.
    fn split_off(&mut self, vip: &Vip, key: &TableKey) -> Result<(), Error> {
        let held = self.vips.iter().find(|(held, _)| vip_key(held) == vip_key(vip));
        let Some(from) = held.map(|(_, from)| from.clone()).filter(|from| from != key) else {
            return Ok(());
        };
        let Some(table) = self.tables.remove(&from) else { return Ok(()) };
        let copied = self.copy(&table, key.clone(), vip.idle);
        self.tables.insert(from, table);
        copied
    }

    /// Makes a table that is like another.
    pub(super) fn copy(
        &mut self,
        from: &Table,
        key: TableKey,
        idle: Duration,
    ) -> Result<(), Error> {
        let (number, _) = self.table_numbers.give(&key).ok_or_else(too_many)?;
        let fresh = FreshTable::create(&[])?;
        self.maps.install(&[(number, &fresh)])?;
        let mut memory = fresh.table;
        if from.moving > 0 {
            self.maps.add_moves(number, &mut memory)?;
        }
        memory.slots().copy(from.slots());
        let mut table = Table::adopted(number, idle, memory);
        table.ramp = from.ramp.clone();
        self.tables.insert(key, table);
        Ok(())
    }

    /// Changes a table that is in force, if its members have changed.
    fn rebalance(
        &mut self,
        key: &TableKey,
        pool: &Pool,
        is_local: bool,
        now: Instant,
    ) -> Result<(), Error> {
        let Some(mut table) = self.tables.remove(key) else { return Ok(()) };
        let changed = self.rebalanced(&mut table, pool, is_local, now);
        self.tables.insert(key.clone(), table);
        changed
    }

    fn rebalanced(
        &mut self,
        table: &mut Table,
        pool: &Pool,
        is_local: bool,
        now: Instant,
    ) -> Result<(), Error> {
        let aims = if is_local { Vec::new() } else { aims_of(pool) };
        let is_quiet = aims == table.aims && !table.ramp.is_under_way();
        if is_quiet && !(is_local && table.members.is_empty() && !table.shares.contains_key(&LOCAL))
        {
            return Ok(());
        }
        let members =
            if is_local { Vec::new() } else { weigh(&mut table.ramp, &aims, pool.slow_start, now) };
        table.aims = aims;
        if members == table.members && !is_local {
            return Ok(());
        }
        let wanted = if is_local {
            vec![LOCAL; SLOTS as usize]
        } else {
            slots_of(&members, &self.numbers_of(&members))
        };
        table.members = members;
        let known = &self.known;
        let is_gone = |number: u16| {
            number != LOCAL && known.get(&number).is_none_or(|backend| backend.is_down)
        };
        if table.slots().moves.is_none() && table.slots().will_move(&wanted, &is_gone) {
            self.maps.add_moves(table.number, &mut table.memory)?;
        }
        table.moving = table.slots().change(&wanted, tick(), &is_gone);
        table.shares = table.slots().shares();
        if table.moving == 0 && table.slots().moves.is_some() {
            self.maps.remove_moves(table.number, &mut table.memory);
        }
        Ok(())
    }

    fn plan(
        &mut self,
        key: &TableKey,
        vip: &Vip,
        pool: &Pool,
        now: Instant,
    ) -> Result<Plan, Error> {
        let (number, _) = self.table_numbers.give(key).ok_or_else(too_many)?;
        let (mut ramp, aims) = (Ramp::default(), aims_of(pool));
        let members = weigh(&mut ramp, &aims, pool.slow_start, now);
        let numbers = self.numbers_of(&members);
        Ok(Plan { key: key.clone(), number, idle: vip.idle, ramp, aims, members, numbers })
    }

    /// Makes tables on every core: a thousandth of a second each.
    fn make(&mut self, plans: &[Plan]) -> Result<(), Error> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = plans.len().div_ceil(cores).max(1);
        let made: Result<Vec<Made>, Error> = std::thread::scope(|scope| {
            let build =
                |plans: &[Plan]| plans.iter().map(Plan::build).collect::<Result<Vec<_>, _>>();
            let threads: Vec<_> =
                plans.chunks(share).map(|plans| scope.spawn(move || build(plans))).collect();
            let mut all = Vec::with_capacity(plans.len());
            for thread in threads {
                let made = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                all.extend(made?);
            }
            Ok(all)
        });
        let made = made?;
        let tables = made.iter().map(|(fresh, _)| fresh);
        let numbered: Vec<_> = plans.iter().map(|plan| plan.number).zip(tables).collect();
        self.maps.install(&numbered)?;
        for (plan, (fresh, shares)) in plans.iter().zip(made) {
            let mut table = Table::new(plan.number, plan.idle, fresh.table, shares);
            table.ramp = plan.ramp.clone();
            table.aims.clone_from(&plan.aims);
            table.members.clone_from(&plan.members);
            self.tables.insert(plan.key.clone(), table);
        }
        Ok(())
    }

    fn numbers_of(&self, members: &[Member]) -> Vec<u16> {
        members.iter().map(|it| self.backends.of(&it.address).unwrap_or(NOWHERE)).collect()
    }

    /// Tells the packet path of the server ids of a table's members.
    fn note_servers(&mut self, key: &TableKey, members: &[PoolMember]) -> Result<(), Error> {
        let Some(table) = self.table_numbers.of(key) else { return Ok(()) };
        for member in members {
            let Some(id) = member.server_id else { continue };
            let Some(backend) = self.backends.of(&member.address) else { continue };
            let key = ServerKey { table: table.into(), id: id.into() };
            if !member.is_up {
                if self.servers.remove(&key).is_some() {
                    self.maps.remove_server(key);
                }
            } else if self.servers.get(&key) != Some(&u32::from(backend)) {
                self.maps.set_server(key, backend)?;
                self.servers.insert(key, backend.into());
            }
        }
        Ok(())
    }

    /// Whether some weight is not yet what it is to be.
    pub(crate) fn is_under_way(&self) -> bool {
        self.vips
            .iter()
            .any(|(_, key)| self.tables.get(key).is_some_and(|it| it.ramp.is_under_way()))
    }

    /// Lets slots settle whose earlier flows are silent.
    pub(super) fn settle(&mut self) {
        let now = tick();
        let mut any = false;
        for table in self.tables.values_mut().filter(|table| table.moving > 0) {
            let before = table.moving;
            table.moving = table.memory.slots().settle(now, table.idle);
            if table.moving < before {
                table.shares = table.memory.slots().shares();
                any = true;
            }
            if table.moving == 0 {
                self.maps.remove_moves(table.number, &mut table.memory);
            }
        }
        if any {
            self.forget_backends();
        }
    }
}

/// The members with their weights at this time, those that are leaving included.
fn weigh(ramp: &mut Ramp, aims: &[Aim], over: Duration, now: Instant) -> Vec<Member> {
    let (weights, leaving) = ramp.weigh(aims, over, now);
    let own = aims.iter().zip(weights).map(|(aim, weight)| Member {
        address: aim.address,
        weight,
        is_down: !aim.is_up,
    });
    let leaving =
        leaving.into_iter().map(|(address, weight)| Member { address, weight, is_down: false });
    own.chain(leaving).collect()
}

/// The backend of each slot.
fn slots_of(members: &[Member], numbers: &[u16]) -> Vec<u16> {
    let Some(table) = maglev(members, SLOTS) else { return vec![NOWHERE; SLOTS as usize] };
    let number = |member: &u16| numbers.get(usize::from(*member)).copied().unwrap_or(NOWHERE);
    table.iter().map(number).collect()
}

fn aims_of(pool: &Pool) -> Vec<Aim> {
    let aim = |it: &PoolMember| Aim { address: it.address, weight: it.weight, is_up: it.is_up };
    pool.members.iter().map(aim).collect()
}

/// The time by the clock of the packet path.
pub(super) fn tick() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from);
    (now.as_nanos() >> TICK_BITS) as u32
}

/// Ticks that last at least so long.
fn ticks(duration: Duration) -> u32 {
    u32::try_from((duration.as_nanos() >> TICK_BITS) + 2).unwrap_or(u32::MAX)
}
