//! Which sources are banned: the tables that user space writes and the kernel reads.
//!
//! IPv4 is a radix tree of three levels behind marks:
//!
//! ```text
//! marks    one word a /17: a bit a /22 says that something is banned near, a bit of a hash that
//!          it may be the address itself
//! sieve    two bits of other hashes: may it really? A false mark mostly ends here
//! root     one word a /16: the line of a page, or 0
//! page     one cell a /24: clean, all of it one decision, or the place of a leaf
//! leaf     a span (one run of addresses) or a block (a /24 cut into many runs)
//! record   what was counted for a banned prefix
//! ```
//!
//! A clean packet costs one load. Everything behind the marks lies in one array of lines, the arena. A change writes a new leaf where
//! nobody looks and then stores one word, so a packet sees the table before or after, never between.
//! IPv6 is an exact look-up for each prefix length in use, behind a filter of hashed /32.

mod cell;
mod find;
mod layout;

pub use cell::{Cell, Kind};
pub use find::{Front, Tables, find, find_v4, search6};
pub use layout::{
    ADDRESS_WORD, BLOCK_RUN_WORD, Event, EventMeter, FILTER_BITS, FILTER_WORDS, FIRST_RECORD,
    HALF_LINE_WORDS, Key6, LAYOUT, LENGTH_WORD, LENGTHS_MAX, LINE_WORDS, LINES_MIN, Lengths, MARKS,
    PAGE_LINES, PENDING, PREFIX6_WORD, Pending, RECORD6_FLAG, ROOT_WORDS, SEEN_WORD, SIEVE_BITS,
    SIEVE_WORDS, SLOTS, STARTS_WORDS, Shared, State, filter_bit, marks_for, sieve_bits,
    span_bounds, span_word,
};
