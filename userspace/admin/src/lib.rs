//! The admin API and the status port: one file an endpoint, all listed in [`ENDPOINTS`].
#![forbid(unsafe_code)]

pub mod api;
pub mod client;

mod allow;
mod ban_stats;
mod ban_watch;
mod bans;
mod control;
mod endpoint;
mod guard;
mod metrics;
mod probes;
mod running;
mod server;
mod status;
mod vips;

pub use ban_watch::Watch;
pub use endpoint::{ENDPOINTS, Endpoint, Port};
pub use running::{Asking, Order, Running};
pub use server::{serve_tcp, serve_unix};
