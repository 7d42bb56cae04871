//! Who is banned, by whom and until when; and the tables that the kernel reads, built from that.
//!
//! `registry` holds the lists and the bans made live; `rule` says what they come to, prefix by prefix;
//! `table` writes that into memory as `weir_abi::ban` reads it. No I/O and no clock: l4 brings the
//! memory and the time.
#![forbid(unsafe_code)]

mod family;
mod list;
mod prefix;
mod registry;
mod rule;
mod table;

pub use list::{List, Merged};
pub use prefix::{Address, Prefix};
pub use registry::{Changed, Decision, ListState, Registry};
pub use rule::{Banned, Rule};
pub use table::{
    Edit, Exhausted, Hits, Marks, Shared, Size, Table, Words, hits_in, keys6, lengths6, mark6,
};
