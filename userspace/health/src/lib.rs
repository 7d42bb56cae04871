//! Probes backends: one file a check, the pure rise/fall machine, and the tasks that drive them.
#![forbid(unsafe_code)]

mod check;
mod grpc;
mod http;
mod machine;
mod tcp;
mod watch;

pub use check::{CHECKS, CheckSpec, ProbeError};
pub use machine::Machine;
pub use watch::{Detour, Watch, watch};
