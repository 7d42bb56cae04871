//! Types, limits, verdicts, reasons and header parsing shared by kernel, user space and tests.
//!
//! The kernel program, the tests on the host and the code that reads the kernel's maps all use this
//! crate, so what a header means and what a counter is called exists once.
#![no_std]
#![forbid(unsafe_code)]

pub mod ban;
pub mod checksum;
pub mod decap;
pub mod guard;
pub mod probe;
pub mod sock;
pub mod verdict;
pub mod vip;
pub mod wire;

mod packet;

pub use packet::{Address, Bytes, Packet};
pub use verdict::{Counter, Drop, End, Pass, Reply, Send, Verdict};
pub use wire::{Flow, Shape};
