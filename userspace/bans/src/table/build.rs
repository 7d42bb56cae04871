//! Writing a whole table into memory that nobody reads yet.

use std::collections::BTreeMap;
use std::convert::Infallible;

use weir_abi::ban::{
    BLOCK_RUN_WORD, Cell, FIRST_RECORD, Kind, LINE_WORDS, PAGE_LINES, ROOT_WORDS, STARTS_WORDS,
    span_word,
};

use super::Table;
use super::leaf::{Leaf, Run, leaves};
use super::memory::{Exhausted, Marks, Memory, Size, Words};
use super::record;
use crate::prefix::Prefix;
use crate::rule::{Banned, Rule};

/// Pages from which on all of them are laid out in a row: the memory is mostly needed anyway.
const PAGES_MIN: u32 = ROOT_WORDS / 4;

impl Table {
    /// How much memory the rules need; gives them their records.
    #[must_use]
    pub fn plan(rules4: &mut [Rule<u32>], rules6: &mut [Rule<u128>]) -> Size {
        let mut size = Size::default();
        // Numbers before the places are known: only that they are not 0 matters for the shape.
        for rule in rules4.iter_mut().filter(|rule| rule.banned != Banned::No) {
            size.records4 += 1;
            rule.record = size.records4;
        }
        size.records6 = rules6.iter().filter(|rule| rule.banned != Banned::No).count() as u32;
        let mut last_page = None;
        let counted: Result<(), Infallible> = leaves(rules4, |block, leaf| {
            if last_page != Some(block >> 8) {
                last_page = Some(block >> 8);
                size.pages += 1;
            }
            match leaf {
                // One that fits into its cell is counted too: where its record will be is not known.
                Leaf::Runs([_]) => size.spans += 1,
                Leaf::Runs(runs) => size.block_lines += 1 + run_lines(runs),
                Leaf::Whole(_) => {}
            }
            Ok(())
        });
        let Ok(()) = counted;
        if size.pages >= PAGES_MIN {
            size.pages = ROOT_WORDS;
        }
        size
    }

    /// Writes the rules, which [`Table::plan`] has seen, into as many zeroed lines as `size`
    /// says, and the marks of
    /// IPv4 into zeroed ones. The records of `rules6` are filled in.
    ///
    /// # Errors
    /// [`Exhausted`] where there are fewer lines than [`Size::lines`] asks for.
    pub fn build(
        words: Words<'_>,
        marks: Marks<'_>,
        size: &Size,
        rules4: &mut [Rule<u32>],
        rules6: &mut [Rule<u128>],
    ) -> Result<Self, Exhausted> {
        let mut memory = Memory::new(size.lines());
        let records = |count: usize| u32::try_from(count).map_err(|_| Exhausted);
        let banned4 = rules4.iter_mut().filter(|rule| rule.banned != Banned::No);
        let banned4: Vec<_> = banned4.collect();
        let count4 = records(banned4.len())?;
        // The header of the records.
        memory.take_row(1)?;
        let first4 = memory.take_row(count4.div_ceil(2))? * 2;
        for (record, rule) in (first4..).zip(banned4) {
            rule.record = record;
            record::write(words, record, rule.prefix.cidr());
        }
        let banned6: Vec<_> = rules6.iter_mut().filter(|rule| rule.banned != Banned::No).collect();
        let count6 = records(banned6.len())?;
        let first6 = memory.take_row(count6)?;
        for (line, rule) in (first6..).zip(banned6) {
            rule.record = line * 2;
            record::write(words, rule.record, rule.prefix.cidr());
        }
        record::write_header(words, count4, count6);
        let pages = if size.pages == ROOT_WORDS {
            let first = memory.take_row(ROOT_WORDS * PAGE_LINES)?;
            (0..ROOT_WORDS).for_each(|page| words.store(page, first + page * PAGE_LINES));
            first
        } else {
            0
        };
        let mut table = Self {
            memory,
            records4: first4..first4 + count4,
            records6: first6..first6 + count6,
            pages,
            later: BTreeMap::new(),
        };
        leaves(rules4, |block, leaf| {
            let cell = table.leaf(words, leaf)?;
            let page = table.page(words, block >> 8)?;
            words.publish(page * LINE_WORDS + (block & 0xff), cell.0);
            leaf.mark(marks, block);
            Ok(())
        })?;
        Ok(table)
    }

    /// The page of a /16; an empty one where there is none.
    pub(crate) fn page(&mut self, words: Words<'_>, number: u32) -> Result<u32, Exhausted> {
        let page = words.load(number);
        if page != 0 {
            return Ok(page);
        }
        let page = self.memory.take_page()?;
        words.publish(number, page);
        Ok(page)
    }

    /// Writes a leaf where nobody looks yet; the cell that leads to it.
    pub(crate) fn leaf(&mut self, words: Words<'_>, leaf: Leaf<'_>) -> Result<Cell, Exhausted> {
        match leaf {
            Leaf::Whole(cell) => Ok(cell),
            Leaf::Runs([run]) if run.host().is_some() => Ok(run.host().unwrap_or_default()),
            Leaf::Runs([run]) => {
                let pair = self.memory.take_pair()?;
                words.store(pair * 2, span_word(run.first, run.last));
                words.store(pair * 2 + 1, run.cell.0);
                Ok(Cell::new(Kind::Span(pair)))
            }
            Leaf::Runs(runs) => {
                let line = self.memory.take_lines(1)?;
                let cells = self.memory.take_lines(run_lines(runs))?;
                write_block(words, line, cells, runs);
                Ok(Cell::new(Kind::Block(line)))
            }
        }
    }
}

impl Run {
    /// The cell that holds all of a run: one address, dropped, with a record among the first.
    fn host(&self) -> Option<Cell> {
        let Kind::Ban(record) = self.cell.kind() else { return None };
        let is_near = (FIRST_RECORD..FIRST_RECORD + Cell::HOST_RECORDS_MAX).contains(&record);
        let is_one = self.first == self.last;
        (is_one && is_near).then(|| Cell::new(Kind::Host(self.last.into(), record)))
    }
}

fn write_block(words: Words<'_>, line: u32, cells: u32, runs: &[Run]) {
    let (mut starts, mut at) = ([0u32; STARTS_WORDS as usize], cells * LINE_WORDS);
    let mut begin = |first: u16, cell: Cell| {
        if let Some(word) = starts.get_mut(usize::from(first >> 5)) {
            *word |= 1 << (first & 31);
            words.store(at, cell.0);
            at += 1;
        }
    };
    let mut next = 0u16;
    for run in runs {
        if u16::from(run.first) > next {
            begin(next, Cell::CLEAN);
        }
        begin(u16::from(run.first), run.cell);
        next = u16::from(run.last) + 1;
    }
    if next < 256 {
        begin(next, Cell::CLEAN);
    }
    for (word, starts) in (0..).zip(starts) {
        words.store(line * LINE_WORDS + word, starts);
    }
    words.store(line * LINE_WORDS + BLOCK_RUN_WORD, cells * LINE_WORDS);
}

/// Lines for the cells of a block: one a run, and one a gap.
pub(crate) fn run_lines(runs: &[Run]) -> u32 {
    cells_of(runs).div_ceil(LINE_WORDS)
}

fn cells_of(runs: &[Run]) -> u32 {
    let (mut count, mut next) = (0, 0u16);
    for run in runs {
        count += 1 + u32::from(u16::from(run.first) > next);
        next = u16::from(run.last) + 1;
    }
    count + u32::from(next < 256)
}

/// Cells that a block's starts mark.
pub(crate) fn cells_in(words: Words<'_>, line: u32) -> u32 {
    (0..STARTS_WORDS).map(|word| words.load(line * LINE_WORDS + word).count_ones()).sum()
}

/// The /24s that a prefix touches.
pub(crate) fn blocks(prefix: Prefix<u32>) -> std::ops::RangeInclusive<u32> {
    prefix.start >> 8..=prefix.last() >> 8
}
