//! The tables that the kernel reads, written into memory that it shares. `weir_abi::ban` has the
//! layout.

mod build;
mod edit;
mod leaf;
mod memory;
mod record;
#[cfg(test)]
mod tests;
mod v6;

pub use edit::{Edit, Shared};
pub use memory::{Exhausted, Marks, Size, Words};
pub use record::{Hits, hits_in};
pub use v6::{keys6, lengths6, mark6};

use std::collections::BTreeMap;

use weir_model::Cidr;

use memory::Memory;

/// The writer of one arena: knows what is used and where every prefix is counted.
#[derive(Debug)]
pub struct Table {
    memory: Memory,
    /// Half lines; the records of the prefixes that were there from the start, sorted.
    records4: std::ops::Range<u32>,
    /// Lines, the same.
    records6: std::ops::Range<u32>,
    /// The line of the first page where all lie in a row, else 0.
    pages: u32,
    /// Records, as cells name them, of prefixes that came later.
    later: BTreeMap<Cidr, u32>,
}

impl Table {
    /// The line of the first page where all of them lie in a row; else 0.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Lines that are written, and lines that there are.
    #[must_use]
    pub fn usage(&self) -> (u32, u32) {
        self.memory.usage()
    }

    /// Lets memory be used again that was given up `age` or longer ago: by then no packet looks at
    /// it any more. Both are in milliseconds of one clock.
    pub fn reclaim(&mut self, now_ms: u64, age_ms: u64) {
        self.memory.reclaim(now_ms, age_ms);
    }
}
