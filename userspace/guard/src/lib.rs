//! The flood guard's decisions: when a VIP or listener is calm, watched or attacked, and what limits the
//! traffic that was seen suggests. Pure: rates and times come in as arguments.
#![forbid(unsafe_code)]

mod learn;
mod machine;
mod meter;

pub use learn::{Seen, Suggested, suggest};
pub use machine::{Machine, Setting, level};
pub use meter::Meter;
