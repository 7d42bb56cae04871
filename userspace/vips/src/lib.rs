//! Which backend has which slot of which VIP, and how that changes.
//!
//! `slots` writes what the packet path reads of a table, `directory` builds what tells it of VIPs,
//! `numbers` gives backends theirs, `ramp` lets weights change slowly. No I/O and no clock: l4 brings
//! the memory and the time.
#![forbid(unsafe_code)]

mod directory;
mod numbers;
mod ramp;
mod slots;

pub use directory::{Full, directory, filter};
pub use numbers::Numbers;
pub use ramp::{Aim, Ramp};
pub use slots::{MOVE_LONGS, Slots};
