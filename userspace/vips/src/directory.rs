//! What tells the packet path of VIPs: a hash table whose searches are short, and a filter before it.

use weir_abi::Address;
use weir_abi::vip::{DIRECTORY, Entry, EntryKind, FILTER_WORDS, PROBES_MAX, filter_bit};

/// The directory cannot hold so many entries, or so many of the same hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The directory of these entries, [`DIRECTORY`] long.
///
/// # Errors
/// [`Full`].
pub fn directory(entries: &[Entry]) -> Result<Vec<Entry>, Full> {
    let mut directory = vec![Entry::EMPTY; DIRECTORY as usize];
    for entry in entries {
        let start = entry.start();
        let free = (0..PROBES_MAX).map(|probe| (start + probe) as usize % DIRECTORY as usize).find(
            |&at| directory.get(at).is_some_and(|it| it.key >> 24 == EntryKind::Empty as u32),
        );
        let place = free.and_then(|at| directory.get_mut(at)).ok_or(Full)?;
        *place = *entry;
    }
    Ok(directory)
}

/// The filter of their addresses.
#[must_use]
pub fn filter(entries: &[Entry]) -> Box<[u64; FILTER_WORDS]> {
    let mut filter = Box::new([0; FILTER_WORDS]);
    for entry in entries {
        let bit = filter_bit(Address { high: entry.high, low: entry.low });
        if let Some(word) = filter.get_mut(bit as usize / 64) {
            *word |= 1 << (bit % 64);
        }
    }
    filter
}

#[cfg(test)]
mod tests {
    use weir_abi::vip::{Directory, VIPS_MAX, find, find_address, find_own};

    use super::*;

    struct Memory(Vec<Entry>);

    impl Directory for Memory {
        type Found = u32;

        fn entry(&self, index: u32) -> Option<u32> {
            self.0.get(index as usize).map(|_| index)
        }

        fn key(&self, found: u32) -> (Address, u32) {
            let entry = self.0[found as usize];
            (Address { high: entry.high, low: entry.low }, entry.key)
        }
    }

    fn kind(memory: &Memory, found: Option<u32>) -> Option<u8> {
        found.map(|found| (memory.0[found as usize].key >> 24) as u8)
    }

    #[test]
    fn exact_ports_stand_before_all_ports() {
        let address = Address::v4(0xcb00_7101);
        let entries = [
            Entry::new(address, 0, 6, EntryKind::Vip),
            Entry::new(address, 8443, 6, EntryKind::Listener),
            Entry::new(address, 0, 0, EntryKind::Address),
            Entry::new(Address::v4(1), 0, 0, EntryKind::OwnSource),
        ];
        let memory = Memory(directory(&entries).unwrap());
        for (port, protocol, expected) in [
            (80, 6, Some(EntryKind::Vip as u8)),
            (8443, 6, Some(EntryKind::Listener as u8)),
            (8443, 17, None),
        ] {
            let found = kind(&memory, find(&memory, address, port, protocol));
            assert_eq!(found, expected, "{port}/{protocol}");
        }
        assert!(find_address(&memory, address).is_some() && find_own(&memory, address).is_none());
        assert!(find_own(&memory, Address::v4(1)).is_some());
        assert!(find(&memory, Address::v4(2), 80, 6).is_none());
        let filter = filter(&entries);
        let bits: u32 = filter.iter().map(|word| word.count_ones()).sum();
        assert_eq!(bits, 2);
    }

    #[test]
    fn as_many_vips_as_there_may_be_find_room() {
        let address = |index: u32| Address::v4(0x0a00_0000 + index);
        let vip = |index| {
            let port = 1 + (index % 3) as u16;
            [
                Entry::new(address(index), port, 6, EntryKind::Vip),
                Entry::new(address(index), 0, 0, EntryKind::Address),
            ]
        };
        let entries: Vec<_> = (0..VIPS_MAX).flat_map(vip).collect();
        let memory = Memory(directory(&entries).unwrap());
        for index in 0..VIPS_MAX {
            let port = 1 + (index % 3) as u16;
            assert!(find(&memory, address(index), port, 6).is_some(), "{index}");
            assert!(find(&memory, address(index), port + 3, 6).is_none(), "{index}");
        }
    }
}
