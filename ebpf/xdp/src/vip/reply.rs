//! What we answer ourselves: pings, and packets that do not fit.

use aya_ebpf::bindings::xdp_md;
use weir_abi::checksum::Sum;
use weir_abi::wire::{PROTOCOL_ICMP, PROTOCOL_ICMP6, V4};
use weir_abi::{Bytes, Drop, End, Packet, Reply, Verdict};

use crate::ethernet::turn;
use crate::frame::{Frame, Span};

const TTL: u8 = 64;
/// Bytes of a packet that the error about it quotes. What does not fit is longer than that.
const QUOTE: usize = 128;
/// The least MTU of IPv6.
const MTU6_MIN: u32 = 1280;
const ICMP_SIZE: usize = 8;
const SIZE4: usize = 20 + ICMP_SIZE;
const SIZE6: usize = 40 + ICMP_SIZE;
/// Destination unreachable: fragmentation needed.
const TOO_BIG4: u32 = 0x0304_0000;
const TOO_BIG6: u32 = 0x0200_0000;

/// Answers an echo request. `transport` is where ICMP begins.
#[inline(always)]
pub fn pong(frame: &Frame, network: usize, transport: usize, family: u8) -> Option<End> {
    turn(frame.span::<12>(0)?);
    let icmp = frame.span::<4>(transport)?;
    // The type goes from 8 to 0, or from 128 to 129.
    let (answer, change) = if family == V4 {
        (0, Sum::default().subtract(0x0800))
    } else {
        (129, Sum::default().add(0x0100))
    };
    icmp.put_u8::<0>(answer);
    icmp.put_u16::<2>(change.applied_to(icmp.u16::<2>()));
    if family == V4 {
        let header = frame.span::<20>(network)?;
        let (source, destination) = (header.u32::<12>(), header.u32::<16>());
        let time = u32::from(header.u8::<8>()) << 8;
        let change = Sum::default().subtract(time).add(u32::from(TTL) << 8);
        header.put_u8::<8>(TTL);
        header.put_u16::<10>(change.applied_to(header.u16::<10>()));
        header.put_u32::<12>(destination);
        header.put_u32::<16>(source);
    } else {
        let header = frame.span::<40>(network)?;
        let source = (header.u64::<8>(), header.u64::<16>());
        header.put_u8::<7>(TTL);
        header.put_u64::<8>(header.u64::<24>());
        header.put_u64::<16>(header.u64::<32>());
        header.put_u64::<24>(source.0);
        header.put_u64::<32>(source.1);
    }
    Some(End::of(Verdict::Reply(Reply::Pong)))
}

/// Tells the sender what fits. Exported for the verifier's sake.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_too_big(context: *mut xdp_md, network: u32, family: u32, mtu: u32) -> u64 {
    let frame = Frame(context);
    let end = match network {
        14 => too_big::<14>(&frame, family, mtu),
        18 => too_big::<18>(&frame, family, mtu),
        22 => too_big::<22>(&frame, family, mtu),
        _ => None,
    };
    end.unwrap_or(End::dropped(Drop::NoRoom)).0
}

#[inline(always)]
fn too_big<const NETWORK: usize>(frame: &Frame, family: u32, mtu: u32) -> Option<End> {
    let size = if family == u32::from(V4) { SIZE4 } else { SIZE6 };
    let surplus = frame.length().checked_sub(NETWORK + QUOTE)?;
    let ethernet = frame.span::<24>(0)?;
    turn(ethernet);
    let (addresses, last) = ((ethernet.u64::<0>(), ethernet.u64::<8>()), ethernet.u64::<16>());
    if !frame.cut(surplus as i32) || !frame.grow(size as i32) {
        return None;
    }
    let ethernet = frame.span::<24>(0)?;
    ethernet.put_u64::<0>(addresses.0);
    ethernet.put_u64::<8>(addresses.1);
    // Up to two tags; what follows them is written over.
    ethernet.put_u64::<16>(last);
    if family == u32::from(V4) {
        too_big4(frame, NETWORK, mtu)?;
    } else {
        too_big6(frame, NETWORK, mtu.max(MTU6_MIN))?;
    }
    Some(End::of(Verdict::Reply(Reply::TooBig)))
}

#[inline(always)]
fn too_big4(frame: &Frame, network: usize, mtu: u32) -> Option<()> {
    let quote = frame.span::<QUOTE>(network + SIZE4)?;
    let (client, vip) = (quote.u32::<12>(), quote.u32::<16>());
    let sum = sum(quote).add(TOO_BIG4).add(mtu);
    let header = frame.span::<SIZE4>(network)?;
    let first = 0x4500_0000 | (SIZE4 + QUOTE) as u32;
    let time = u16::from(TTL) << 8 | u16::from(PROTOCOL_ICMP);
    let own = Sum::default().add(first).add(time.into()).add(vip).add(client);
    header.put_u32::<0>(first);
    header.put_u32::<4>(0);
    header.put_u16::<8>(time);
    header.put_u16::<10>(own.checksum());
    header.put_u32::<12>(vip);
    header.put_u32::<16>(client);
    header.put_u32::<20>(TOO_BIG4 | u32::from(sum.checksum()));
    header.put_u32::<24>(mtu);
    Some(())
}

#[inline(always)]
fn too_big6(frame: &Frame, network: usize, mtu: u32) -> Option<()> {
    const PAYLOAD: u32 = (ICMP_SIZE + QUOTE) as u32;
    let quote = frame.span::<QUOTE>(network + SIZE6)?;
    let client = (quote.u64::<8>(), quote.u64::<16>());
    let vip = (quote.u64::<24>(), quote.u64::<32>());
    let sum = sum(quote).add(TOO_BIG6).add(mtu).add(PAYLOAD).add(PROTOCOL_ICMP6.into());
    let sum = sum.add_long(client.0).add_long(client.1).add_long(vip.0).add_long(vip.1);
    let header = frame.span::<SIZE6>(network)?;
    header.put_u32::<0>(0x6000_0000);
    header.put_u32::<4>(PAYLOAD << 16 | u32::from(PROTOCOL_ICMP6) << 8 | u32::from(TTL));
    header.put_u64::<8>(vip.0);
    header.put_u64::<16>(vip.1);
    header.put_u64::<24>(client.0);
    header.put_u64::<32>(client.1);
    header.put_u32::<40>(TOO_BIG6 | u32::from(sum.checksum()));
    header.put_u32::<44>(mtu);
    Some(())
}

/// The sum of a quote.
#[inline(always)]
fn sum(quote: Span<QUOTE>) -> Sum {
    macro_rules! sum {
        ($($at:literal)*) => { Sum::default()$(.add_long(quote.u64::<$at>()))* };
    }
    sum!(0 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120)
}
