//! The steps of a packet's way: `main.rs` strings them together.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod admit;
mod balance;
pub mod count;
mod ethernet;
mod event;
mod frame;
pub mod guard;
mod hit;
pub mod sample;
mod skb;
mod tables;
pub mod vip;

pub use balance::balance;
pub use frame::{Frame, Span};
pub use skb::{Endpoint, Side, Skb};

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
