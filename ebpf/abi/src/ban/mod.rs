//! Which sources are banned: the tables that user space writes and the kernel reads.
//!
//! IPv4 is a radix tree of three levels behind a bitmap:
//!
//! ```text
//! bitmap   one bit a /24: is anything here? A clean packet ends at this bit.
//! root     one word a /16: the line of a page, or 0
//! page     one cell a /24: clean, all of it one decision, or the place of a leaf
//! leaf     a span (one run of addresses) or a block (a /24 cut into many runs)
//! record   what was counted for a banned prefix
//! ```
//!
//! Everything behind the bitmap lies in one array of lines, the arena. A change writes a new leaf where
//! nobody looks and then stores one word, so a packet sees the table before or after, never between.
//! IPv6 is an exact look-up for each prefix length in use, behind a bitmap of hashed /32.

mod cell;
mod find;
mod layout;

pub use cell::{Cell, Kind};
pub use find::{Tables, find, search6};
pub use layout::{
    ADDRESS_WORD, BLOCK_RUN_WORD, Event, EventMeter, FILTER_BITS, HALF_LINE_WORDS, Key6, LAYOUT,
    LENGTH_WORD, LENGTHS_MAX, LINE_WORDS, LINES_MIN, Lengths, MARKS, MARKS_WORDS, PAGE_LINES,
    PREFIX6_WORD, RECORD6_FLAG, ROOT_WORDS, SEEN_WORD, SLOTS, STARTS_WORDS, State, filter_bit,
    span_bounds, span_word,
};
