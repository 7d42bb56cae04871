//! What forwarding does to the IP header of a packet, whatever its family.

use weir_abi::checksum::Sum;
use weir_abi::wire::{IPV6_SIZE, V4};
use weir_abi::{Bytes, Packet};

use crate::frame::Frame;

/// What an encapsulation wants to know of a packet.
#[derive(Clone, Copy)]
pub struct Inner {
    /// Bytes of the IP packet.
    pub size: u32,
    /// Its traffic class: DSCP and ECN.
    pub class: u8,
    /// Its time to live.
    pub ttl: u8,
}

/// Reads it.
#[inline(always)]
pub fn inner(frame: &Frame, network: u32, family: u8) -> Option<Inner> {
    let header = frame.span::<20>(network as usize)?;
    let first = header.u16::<0>();
    Some(if family == V4 {
        Inner { size: header.u16::<2>().into(), class: first as u8, ttl: header.u8::<8>() }
    } else {
        let size = u32::from(header.u16::<4>()) + IPV6_SIZE as u32;
        Inner { size, class: (first >> 4) as u8, ttl: header.u8::<7>() }
    })
}

/// Takes one from the time to live, which must be more than one.
#[inline(always)]
pub fn decrement_ttl(frame: &Frame, network: u32, family: u8, ttl: u8) -> Option<()> {
    let header = frame.span::<20>(network as usize)?;
    if family == V4 {
        header.put_u8::<8>(ttl.wrapping_sub(1));
        let change = Sum::default().subtract(0x0100);
        header.put_u16::<10>(change.applied_to(header.u16::<10>()));
    } else {
        header.put_u8::<7>(ttl.wrapping_sub(1));
    }
    Some(())
}
