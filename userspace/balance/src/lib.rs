//! Which backend serves a request: upstreams with their run-time state, and one file an algorithm.
//!
//! Nothing here does I/O, reads a clock or draws a random number. State that reactors share is
//! atomic, so a choice takes no lock.
#![forbid(unsafe_code)]

mod algorithm;
mod backend;
mod least_requests;
mod maglev;
mod retry_budget;
mod round_robin;
mod upstream;

pub use algorithm::{ALGORITHMS, Algorithm, AlgorithmSpec};
pub use backend::{Backend, BackendId, Health, OpenRequest, health_changes};
pub use maglev::{Member, maglev};
pub use retry_budget::RetryBudget;
pub use upstream::{Upstream, build};
