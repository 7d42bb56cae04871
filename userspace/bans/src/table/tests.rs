//! The kernel's search over tables in plain memory, beside a search through all bans.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::SystemTime;

use weir_abi::Address as Source;
use weir_abi::ban::{
    Cell, FILTER_WORDS, Front, Key6, Kind, LINE_WORDS, Lengths, MARKS, SIEVE_WORDS, Tables, find,
};
use weir_model::{Ban, BanOrigin, Cidr};

use super::{Edit, Marks, Shared, Table, Words, keys6, lengths6, mark6};
use crate::prefix::{Address, Prefix};
use crate::{Decision, List, Registry};

/// What l4 keeps in the kernel.
struct Image {
    words: Vec<AtomicU32>,
    v4: Vec<AtomicU64>,
    sieve: Vec<AtomicU64>,
    v6: Vec<AtomicU64>,
    exact: HashMap<(u32, [u8; 16]), u32>,
    lengths: Lengths,
    table: Table,
}

impl Image {
    fn of(registry: &Registry) -> Self {
        let (mut rules4, mut rules6) = (registry.rules4(None), registry.rules6());
        let size = Table::plan(&mut rules4, &mut rules6);
        let lines = size.lines();
        let zeroed = |count: u32| (0..count).map(|_| AtomicU32::new(0)).collect::<Vec<_>>();
        let words = zeroed(lines * LINE_WORDS);
        let zeroed = |count: u32| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let (v4, sieve, v6) = (zeroed(MARKS), zeroed(SIEVE_WORDS), zeroed(FILTER_WORDS));
        let marks = Marks { v4: &v4, sieve: &sieve, v6: &v6 };
        let table = Table::build(Words(&words), marks, &size, &mut rules4, &mut rules6).unwrap();
        rules6.iter().for_each(|rule| mark6(marks, rule.prefix));
        let exact = keys6(&rules6).map(|(key, cell)| ((key.length, key.address), cell)).collect();
        Self { words, v4, sieve, v6, exact, lengths: lengths6(&rules6), table }
    }

    fn edit(&mut self, registry: &Registry, cidr: Cidr) {
        let Some(prefix) = Prefix::<u32>::of(cidr) else { return };
        let within = Prefix::around(prefix.start, prefix.length.min(24));
        let rules = registry.rules4(Some(within));
        let shared = Shared {
            words: Words(&self.words),
            marks: Marks { v4: &self.v4, sieve: &self.sieve, v6: &self.v6 },
        };
        let edit = Edit { around: prefix, rules, is_new: false, now_ms: 0 };
        if self.table.edit(shared, edit).is_err() {
            *self = Self::of(registry);
        }
    }

    fn find(&self, address: IpAddr) -> Kind {
        let bits = match address {
            IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
            IpAddr::V6(address) => u128::from(address),
        };
        let source = Source { high: (bits >> 64) as u64, low: bits as u64 };
        find(&self, source).kind()
    }
}

impl<'a> Front for &'a Image {
    type Tables = &'a Image;

    fn marks(&self, word: u32) -> u64 {
        self.v4[word as usize].load(Relaxed)
    }

    fn sieve(&self, bit: u32) -> bool {
        self.sieve[bit as usize / 64].load(Relaxed) >> (bit % 64) & 1 == 1
    }

    fn filter(&self, bit: u32) -> bool {
        self.v6[bit as usize / 64].load(Relaxed) >> (bit % 64) & 1 == 1
    }

    fn tables(&self) -> &'a Image {
        self
    }
}

impl Tables for &Image {
    fn pages(&self) -> u32 {
        self.table.pages()
    }

    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        assert_eq!(at as usize % N, 0);
        Some(std::array::from_fn(|index| Words(&self.words).load(at + index as u32)))
    }

    fn lengths(&self) -> (u32, bool) {
        (self.lengths.count, self.lengths.allowed != 0)
    }

    fn length(&self, index: u32) -> u8 {
        self.lengths.lengths[index as usize]
    }

    fn exact(&self, key: &Key6) -> Option<Cell> {
        self.exact.get(&(key.length, key.address)).map(|cell| Cell(*cell))
    }
}

/// A seeded stream of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Addresses that often share their /16, /24 or even more.
    fn address(&mut self) -> u32 {
        let [a, b, c] = [self.below(3), self.below(2), self.below(4)].map(|part| part as u32);
        a << 24 | b << 16 | c << 8 | self.below(256) as u32
    }

    fn cidr(&mut self) -> Cidr {
        if self.below(4) == 0 {
            let length = [0, 13, 29, 32, 48, 64, 127, 128][self.below(8) as usize];
            let address = u128::from(self.address()) << 96 | u128::from(self.address());
            return Prefix::around(address, length.max(1)).cidr();
        }
        let length = match self.below(8) {
            0 if self.below(30) == 0 => 1 + self.below(7) as u8,
            0 => 8 + self.below(8) as u8,
            1 => 16 + self.below(8) as u8,
            _ => 24 + self.below(9) as u8,
        };
        Prefix::around(self.address(), length).cidr()
    }

    fn probe(&mut self) -> IpAddr {
        match self.below(4) {
            0 => (u128::from(self.address()) << 96 | u128::from(self.address())).ip(),
            _ => self.address().ip(),
        }
    }

    fn ban(&mut self) -> Ban {
        let mut ban = Ban::new(self.cidr(), BanOrigin::Operator, SystemTime::UNIX_EPOCH);
        ban.dry_run = self.below(4) == 0;
        ban.forced = self.below(8) == 0;
        ban
    }
}

fn agrees(image: &Image, registry: &Registry, address: IpAddr, what: &str) {
    let found = image.find(address);
    let decision = registry.test(address);
    let same = match &decision {
        Decision::Clean | Decision::Allowed { banned_by: None, .. } => found == Kind::Clean,
        Decision::Banned(_) => matches!(found, Kind::Ban(_)),
        Decision::WouldDrop(_) => matches!(found, Kind::DryRun(_)),
        Decision::Allowed { .. } | Decision::Protected { .. } => matches!(found, Kind::Allowed(_)),
    };
    assert!(same, "{what}: {address}: {found:?}, expected {decision:?}");
    // Who decides is whose packets are counted.
    if let (
        Decision::Banned(ban) | Decision::WouldDrop(ban),
        Kind::Ban(record) | Kind::DryRun(record),
    ) = (&decision, found)
    {
        let expected = image.table.record(Words(&image.words), ban.cidr);
        assert_eq!(Some(record), expected, "{what}: {address}: {decision:?}");
    }
}

fn random_registry(random: &mut Random) -> Registry {
    let mut registry = Registry::default();
    for (name, dry_run) in [("one", false), ("two", random.below(2) == 0)] {
        let mut list = List::new(SystemTime::UNIX_EPOCH, dry_run);
        for _ in 0..random.below(40) {
            list.push(random.cidr(), "", None);
        }
        list.merge();
        registry.put_list(name, list);
    }
    (0..random.below(20)).for_each(|_| registry.add(random.ban()));
    let allowed: Vec<_> = (0..random.below(6)).map(|_| random.cidr()).collect();
    registry.allow(&allowed);
    let protected: Vec<_> = (0..random.below(6)).map(|_| Cidr::host(random.probe())).collect();
    registry.protect(&protected);
    registry
}

#[test]
fn a_built_table_says_what_the_registry_says() {
    for seed in 0..80 {
        let mut random = Random(seed);
        let registry = random_registry(&mut random);
        let image = Image::of(&registry);
        for _ in 0..400 {
            agrees(&image, &registry, random.probe(), &format!("seed {seed}"));
        }
    }
}

/// So many that their pages lie in a row.
#[test]
fn a_scattered_table_says_what_the_registry_says() {
    let (mut random, mut registry) = (Random(5), Registry::default());
    let mut list = List::new(SystemTime::UNIX_EPOCH, false);
    let mut addresses = Vec::new();
    for index in 0..60_000u64 {
        let address = (index << 16 | random.below(1 << 16)) as u32;
        addresses.push(address);
        list.push(Prefix::around(address, 32).cidr(), "", None);
    }
    list.merge();
    registry.put_list("a", list);
    let mut image = Image::of(&registry);
    assert_ne!(image.table.pages(), 0);
    for address in addresses.iter().step_by(7) {
        agrees(&image, &registry, address.ip(), "banned");
        agrees(&image, &registry, (address ^ 1).ip(), "a neighbour");
    }
    let cidr = Prefix::around(0xff00_0000u32, 9).cidr();
    registry.add(Ban::new(cidr, BanOrigin::Operator, SystemTime::UNIX_EPOCH));
    image.edit(&registry, cidr);
    agrees(&image, &registry, 0xff01_0203u32.ip(), "edited");
}

#[test]
fn an_edited_table_says_what_a_new_one_would() {
    for seed in 0..25 {
        let mut random = Random(1_000 + seed);
        let mut registry = random_registry(&mut random);
        let mut image = Image::of(&registry);
        for step in 0..60 {
            let cidr = match random.below(3) {
                0 => {
                    let known = registry.prefixes_after(None, 200);
                    let Some(cidr) = known.get(random.below(known.len().max(1) as u64) as usize)
                    else {
                        continue;
                    };
                    registry.remove(*cidr);
                    *cidr
                }
                1 => {
                    let cidr = random.cidr();
                    registry.allow(&[cidr]);
                    cidr
                }
                _ => {
                    let ban = random.ban();
                    let cidr = ban.cidr;
                    registry.add(ban);
                    cidr
                }
            };
            if cidr.address().is_ipv6() {
                image = Image::of(&registry);
                continue;
            }
            image.edit(&registry, cidr);
            image.table.reclaim(step, 0);
            for _ in 0..40 {
                agrees(
                    &image,
                    &registry,
                    random.address().ip(),
                    &format!("seed {seed}, step {step}"),
                );
            }
        }
    }
}

#[test]
fn what_was_given_up_is_used_again() {
    let mut registry = Registry::default();
    let mut image = Image::of(&registry);
    let cidrs: Vec<Cidr> = (0..100u32).map(|last| Prefix::around(last, 32).cidr()).collect();
    let mut used = Vec::new();
    for round in 0..200 {
        for cidr in &cidrs {
            registry.add(Ban::new(*cidr, BanOrigin::Operator, SystemTime::UNIX_EPOCH));
            image.edit(&registry, *cidr);
        }
        for cidr in &cidrs {
            registry.remove(*cidr);
            image.edit(&registry, *cidr);
        }
        image.table.reclaim(round, 0);
        used.push(image.table.usage().0);
    }
    assert_eq!(used.first(), used.last(), "{used:?}");
}
