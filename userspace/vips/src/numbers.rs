//! Numbers for what the kernel's maps hold by number: backends, VIPs, tables. One that is free is
//! given again as late as possible.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Who has which number.
#[derive(Clone, Debug)]
pub struct Numbers<K> {
    by_key: HashMap<K, u16>,
    free: VecDeque<u16>,
    /// Numbers from here on were never given.
    fresh: u16,
    end: u16,
}

impl<K: Hash + Eq + Clone> Numbers<K> {
    /// Numbers from `first` to before `end`.
    #[must_use]
    pub fn new(first: u16, end: u16) -> Self {
        Self { by_key: HashMap::new(), free: VecDeque::new(), fresh: first, end }
    }

    /// The number of a key that has one.
    #[must_use]
    pub fn of(&self, key: &K) -> Option<u16> {
        self.by_key.get(key).copied()
    }

    /// The number of a key, and whether it was given only now; `None` if there is none left.
    pub fn give(&mut self, key: &K) -> Option<(u16, bool)> {
        if let Some(number) = self.of(key) {
            return Some((number, false));
        }
        let number = if self.fresh < self.end {
            self.fresh += 1;
            self.fresh - 1
        } else {
            self.free.pop_front()?
        };
        self.by_key.insert(key.clone(), number);
        Some((number, true))
    }

    /// Notes that a key has this number, as another process left it.
    pub fn adopt(&mut self, key: K, number: u16) {
        while self.fresh <= number && self.fresh < self.end {
            self.free.push_back(self.fresh);
            self.fresh += 1;
        }
        self.free.retain(|&free| free != number);
        self.by_key.insert(key, number);
    }

    /// Takes back the numbers of those that are not kept; who they were.
    pub fn retain(&mut self, mut keeps: impl FnMut(&K, u16) -> bool) -> Vec<(K, u16)> {
        let mut gone = Vec::new();
        self.by_key.retain(|key, number| {
            let kept = keeps(key, *number);
            if !kept {
                gone.push((key.clone(), *number));
            }
            kept
        });
        gone.sort_unstable_by_key(|(_, number)| *number);
        self.free.extend(gone.iter().map(|(_, number)| *number));
        gone
    }

    /// Everyone with a number.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u16)> {
        self.by_key.iter().map(|(key, number)| (key, *number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_given_and_given_again() {
        let mut numbers = Numbers::new(1, 4);
        numbers.adopt("b", 2);
        assert_eq!(numbers.of(&"b"), Some(2));
        assert_eq!(numbers.give(&"c"), Some((3, true)));
        assert_eq!(numbers.give(&"c"), Some((3, false)));
        assert_eq!(numbers.give(&"a"), Some((1, true)));
        assert_eq!(numbers.give(&"d"), None);
        assert_eq!(numbers.retain(|key, _| *key == "a"), [("b", 2), ("c", 3)]);
        assert_eq!(numbers.give(&"d"), Some((2, true)));
        assert_eq!(numbers.iter().count(), 2);
    }
}
