//! Which backend serves a request: upstreams with their run-time state, and one file an algorithm.
//!
//! Nothing here does I/O, reads a clock or draws a random number. State that reactors share is
//! atomic, so a choice takes no lock.
#![forbid(unsafe_code)]

mod algorithm;
mod backend;
mod choice;
mod consistent_hash;
mod hash;
mod least_requests;
mod maglev;
mod maglev_pick;
mod outlier;
mod peak_ewma;
mod random;
mod retry_budget;
mod round_robin;
mod slots;
mod tiers;
mod upstream;
mod weighted;

pub use algorithm::{ALGORITHMS, Algorithm, AlgorithmSpec, Setting};
pub use backend::{Backend, BackendId, Health, OpenRequest, health_changes};
pub use choice::{Candidates, Choice};
pub use hash::hash;
pub use maglev::{Member, maglev};
pub use outlier::Outcome;
pub use retry_budget::RetryBudget;
pub use slots::{ConnectionSlot, PendingSlot, RequestSlot};
pub use upstream::{Upstream, build};
