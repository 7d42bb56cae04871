//! A TCP packet turned into an answer of another length, up to its TCP header.

use core::hint::black_box;

use weir_abi::checksum::Sum;
use weir_abi::wire::{IPV4_SIZE_MIN, IPV6_SIZE, PROTOCOL_TCP};
use weir_abi::{Bytes, Packet};

use crate::ethernet::turn;
use crate::frame::Frame;

const TTL: u32 = 64;
const DONT_FRAGMENT: u32 = 0x4000;

/// Turns the headers before TCP, whose header is to have `size` bytes and nothing behind it. Where it
/// begins, and the sum of what its checksum covers besides it.
#[inline(always)]
pub fn turned<const NETWORK: usize>(frame: &Frame, is_v4: bool, size: u32) -> Option<(usize, Sum)> {
    let at = NETWORK + if is_v4 { IPV4_SIZE_MIN } else { IPV6_SIZE };
    // Else the compiler would cut a pointer short.
    let length = black_box(frame.length());
    let surplus = length as i32 - (at as u32 + size) as i32;
    if surplus != 0 && !frame.cut(surplus) {
        return None;
    }
    turn(frame.span::<12>(0)?);
    let sum = if is_v4 { turn4(frame, NETWORK, size)? } else { turn6(frame, NETWORK, size)? };
    Some((at, sum.add(PROTOCOL_TCP.into()).add(size)))
}

/// Turns the IPv4 header; the sum of its addresses.
#[inline(always)]
fn turn4(frame: &Frame, network: usize, size: u32) -> Option<Sum> {
    let header = frame.span::<20>(network)?;
    let (source, destination) = (header.u32::<12>(), header.u32::<16>());
    let first = 0x4500_0000 | (IPV4_SIZE_MIN as u32 + size);
    let time = TTL << 8 | u32::from(PROTOCOL_TCP);
    let addresses = Sum::default().add(source).add(destination);
    header.put_u32::<0>(first);
    header.put_u32::<4>(DONT_FRAGMENT);
    header.put_u16::<8>(time as u16);
    header.put_u16::<10>(addresses.add(first).add(DONT_FRAGMENT).add(time).checksum());
    header.put_u32::<12>(destination);
    header.put_u32::<16>(source);
    Some(addresses)
}

/// The same of IPv6.
#[inline(always)]
fn turn6(frame: &Frame, network: usize, size: u32) -> Option<Sum> {
    let header = frame.span::<40>(network)?;
    let source = (header.u64::<8>(), header.u64::<16>());
    let destination = (header.u64::<24>(), header.u64::<32>());
    header.put_u32::<0>(0x6000_0000);
    header.put_u32::<4>(size << 16 | u32::from(PROTOCOL_TCP) << 8 | TTL);
    header.put_u64::<8>(destination.0);
    header.put_u64::<16>(destination.1);
    header.put_u64::<24>(source.0);
    header.put_u64::<32>(source.1);
    let sum = Sum::default().add_long(source.0).add_long(source.1);
    Some(sum.add_long(destination.0).add_long(destination.1))
}
