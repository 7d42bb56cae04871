//! Changing a table that the kernel reads.

use std::convert::Infallible;

use weir_abi::ban::{BLOCK_RUN_WORD, Cell, Kind, LINE_WORDS, PAGE_LINES};

use super::Table;
use super::build::{blocks, cells_in, run_lines};
use super::leaf::{Leaf, leaves};
use super::memory::{Exhausted, Marks, Words};
use crate::prefix::Prefix;
use crate::rule::{Banned, Rule};

/// The memory of a table in force: the arena, and what stands in front.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// The arena.
    pub words: Words<'a>,
    /// What stands in front of it.
    pub marks: Marks<'a>,
}

/// What is written into a table in force.
#[derive(Debug)]
pub struct Edit {
    /// The prefix of which something else is said than before.
    pub around: Prefix<u32>,
    /// The rules that say anything of the /24s that it touches.
    pub rules: Vec<Rule<u32>>,
    /// Whether its packets are counted from zero.
    pub is_new: bool,
    /// When, milliseconds; the clock of [`Table::reclaim`].
    pub now_ms: u64,
}

impl Table {
    /// Lines that an edit needs at most.
    #[must_use]
    pub fn lines_for(&self, words: Words<'_>, around: Prefix<u32>, rules: &[Rule<u32>]) -> u32 {
        let (mut lines, mut last_page) = (rules.len() as u32, None);
        // The records are not known yet, and matter to the shape only as different from each other.
        let mut shaped = rules.to_vec();
        (1..).zip(&mut shaped).for_each(|(record, rule)| rule.record = record);
        let touched = blocks(around);
        let counted: Result<(), Infallible> = leaves(&shaped, |block, leaf| {
            if !touched.contains(&block) {
                return Ok(());
            }
            if last_page != Some(block >> 8) && words.load(block >> 8) == 0 {
                lines += PAGE_LINES;
            }
            last_page = Some(block >> 8);
            lines += match leaf {
                Leaf::Runs([_]) => 1,
                Leaf::Runs(runs) => 1 + run_lines(runs),
                Leaf::Whole(_) => 0,
            };
            Ok(())
        });
        let Ok(()) = counted;
        lines
    }

    /// Whether so many lines are free for sure.
    #[must_use]
    pub fn has_room(&self, lines: u32) -> bool {
        lines <= self.memory.untouched()
    }

    /// Writes what becomes of all sources in the /24s that an edit touches.
    ///
    /// # Errors
    /// [`Exhausted`]: some of it may be written; a table must be built.
    pub fn edit(&mut self, shared: Shared<'_>, edit: Edit) -> Result<(), Exhausted> {
        let (Shared { words, marks }, Edit { around, mut rules, is_new, now_ms }) = (shared, edit);
        for rule in rules.iter_mut().filter(|rule| rule.banned != Banned::No) {
            let is_new = is_new && rule.prefix == around;
            rule.record = self.fresh_record(words, rule.prefix.cidr(), is_new)?;
        }
        let touched = blocks(around);
        let (mut next, last) = (*touched.start(), *touched.end());
        leaves(&rules, |block, leaf| {
            if !touched.contains(&block) {
                return Ok(());
            }
            (next..block).for_each(|clean| self.clear(shared, clean, now_ms));
            next = block + 1;
            let cell = self.leaf(words, leaf)?;
            let page = self.page(words, block >> 8)?;
            self.replace(words, page * LINE_WORDS + (block & 0xff), cell, now_ms);
            leaf.mark(marks, block);
            Ok(())
        })?;
        (next..=last).for_each(|clean| self.clear(shared, clean, now_ms));
        Ok(())
    }

    /// Counts for a ban of IPv6 in the record that this gives, from zero if the ban is new.
    ///
    /// # Errors
    /// [`Exhausted`]: a table must be built.
    pub fn record6(
        &mut self,
        words: Words<'_>,
        rule: &mut Rule<u128>,
        is_new: bool,
    ) -> Result<(), Exhausted> {
        if rule.banned != Banned::No {
            rule.record = self.fresh_record(words, rule.prefix.cidr(), is_new)?;
        }
        Ok(())
    }

    fn clear(&mut self, Shared { words, marks }: Shared<'_>, block: u32, now_ms: u64) {
        let page = words.load(block >> 8);
        if page != 0 {
            self.replace(words, page * LINE_WORDS + (block & 0xff), Cell::CLEAN, now_ms);
        }
        // Its neighbours in the /22 are marked by the same bit.
        if (block & !3..=block | 3).all(|near| self.is_clean(words, near)) {
            marks.take_near(block << 8);
        }
    }

    fn is_clean(&self, words: Words<'_>, block: u32) -> bool {
        let page = words.load(block >> 8);
        page == 0 || words.load(page * LINE_WORDS + (block & 0xff)) == Cell::CLEAN.0
    }

    /// Stores a cell; what the one before led to is given up.
    fn replace(&mut self, words: Words<'_>, at: u32, cell: Cell, now_ms: u64) {
        let before = Cell(words.load(at)).kind();
        words.publish(at, cell.0);
        match before {
            Kind::Span(pair) => self.memory.give_up_pair(pair, now_ms),
            Kind::Block(line) => {
                let cells = words.load(line * LINE_WORDS + BLOCK_RUN_WORD) / LINE_WORDS;
                let count = cells_in(words, line).div_ceil(LINE_WORDS);
                self.memory.give_up_lines(line, 1, now_ms);
                self.memory.give_up_lines(cells, count, now_ms);
            }
            _ => {}
        }
    }
}
