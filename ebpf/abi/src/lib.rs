//! Types, limits, verdicts, reasons and header parsing shared by kernel, user space and tests.
//!
//! The kernel program, the tests on the host and the code that reads the kernel's maps all use this
//! crate, so what a header means and what a counter is called exists once.
#![no_std]
#![forbid(unsafe_code)]

pub mod ban;
pub mod verdict;
pub mod wire;

pub use verdict::{Counter, Drop, Pass, Verdict};
pub use wire::{Address, Flow, Network, Packet, Transport};
