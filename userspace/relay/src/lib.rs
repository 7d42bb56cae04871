//! Bytes between two sockets that belong together, once nothing in them needs to be understood.
//!
//! The way of a pair: `relay` hands it to a `worker`, a thread with one event loop → its `link`
//! moves what has arrived → each of its two `direction`s copies small messages and splices bulk
//! through a pipe of the worker's `pipes`. `idle` tells who was silent for too long.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod direction;
mod idle;
mod link;
mod pipes;
mod relay;
mod worker;

pub use relay::{End, Ended, Pair, Relay, RelayHandle};
