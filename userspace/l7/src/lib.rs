//! The reactors: accept, parse, route, forward.
//!
//! The way of a request: `listener` accepts → `client` reads its head → `exchange` forwards it, by
//! way of `route` and `attempts` → `answer` passes the backend's answer on.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

#[doc(hidden)]
pub mod fuzz;

mod answer;
mod attempts;
mod bans;
mod buffer;
mod client;
mod compress;
mod connection;
mod counters;
mod deferred;
mod engine;
mod exchange;
mod forwarded;
mod hedge;
mod http1;
mod http2;
mod io;
mod listener;
mod low_water;
mod mirror;
mod outlet;
mod pipe;
mod pool;
mod reactor;
mod refusal;
mod request_body;
mod route;
mod snapshot;
mod socket;
mod splice;
mod stopwatch;
mod stream;
mod tcp;
mod timers;
mod transfer;
mod tunnel;
mod wanted;
mod websocket;

pub use bans::Bans;
pub use counters::{Counter, Counters, DURATION_BOUNDS_US};
pub use engine::{Engine, EngineError, ListenerSockets, ListenerStatus, Plan};
pub use outlet::{Outlet, Pair};
pub use refusal::Refusal;
pub use route::{Explained, Question, RouteTable};
pub use snapshot::{Snapshot, SnapshotError};
