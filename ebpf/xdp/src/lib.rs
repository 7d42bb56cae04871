//! The steps of a packet's way: `main.rs` strings them together.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod admit;
pub mod count;
mod event;
mod frame;
mod hit;
pub mod sample;
mod tables;

pub use frame::Frame;
