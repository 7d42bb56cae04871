//! The flood guard: what the kernel's maps hold of it, and what is decided without them.

mod challenge;
mod layout;
mod rules;
mod sketch;

pub use challenge::{answers, challenge};
pub use layout::{
    Bucket, Counter, ECN, GUARDED_MAX, Guard, HEAVY_MAX, KINDS, Key, Kind, LAYOUT, LENGTHS, Mode,
    PROVEN_MAX, Place, SKETCH_CELLS, SKETCH_ROWS, State, Switch, TIMES, TOTAL, masks,
};
pub use rules::{is_reflected, is_sane};
pub use sketch::{Cells, cell_of, count, source_key};
