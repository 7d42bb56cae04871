//! The kernel side: loads and attaches the XDP program, owns its maps.
//!
//! `kernel` is what others see; `registry` knows every ban with its reason; `datapath` is the one
//! place that speaks to the kernel.
#![cfg_attr(not(feature = "kernel"), forbid(unsafe_code))]

mod doctor;
mod error;
mod kernel;
mod registry;

#[cfg(feature = "kernel")]
mod batch;
#[cfg(feature = "kernel")]
mod datapath;
#[cfg(feature = "kernel")]
mod samples;

#[cfg(not(feature = "kernel"))]
#[path = "datapath_absent.rs"]
mod datapath;

pub use doctor::{Finding, doctor};
pub use error::Error;
pub use kernel::{AttachMode, Attached, Changed, Counter, Decision, Kernel};
