//! What a backend takes out of packets: IPIP, and GUE of variant 1.

use crate::wire::{
    self, ETHERTYPE_IPV4, IPV6_SIZE, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP, UDP_SIZE, V4, V6,
};
use crate::{Address, Bytes, Packet, Shape};

/// VIPs of one backend.
pub const ADDRESSES_MAX: u32 = 4_096;
/// Kinds of [`Outcome`].
pub const OUTCOMES: u32 = 5;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// It was no encapsulation: passed as it is.
    Plain = 0,
    /// Taken out of IPIP.
    Ipip = 1,
    /// Taken out of GUE.
    Gue = 2,
    /// An encapsulation of something that is not for a VIP: passed as it is.
    Foreign = 3,
    /// An encapsulation that contradicts itself: dropped.
    Malformed = 4,
}

impl Outcome {
    /// Every one with the word for it.
    pub const NAMES: [(Self, &'static str); OUTCOMES as usize] = [
        (Self::Plain, "plain"),
        (Self::Ipip, "ipip"),
        (Self::Gue, "gue"),
        (Self::Foreign, "foreign"),
        (Self::Malformed, "malformed"),
    ];
}

/// A packet inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Whom it is for.
    pub destination: Address,
    /// Where the outer IP header is.
    pub network: u16,
    /// Bytes of the headers around it.
    pub outer: u16,
    /// 4 or 6.
    pub family: u8,
    /// Whether it came in UDP.
    pub is_gue: bool,
}

/// Looks for a packet inside this one.
///
/// # Errors
/// There is none: [`Outcome::Plain`] or [`Outcome::Malformed`].
#[inline(always)]
pub fn inside(packet: &impl Packet, gue_port: u16) -> Result<Inside, Outcome> {
    let (network, ethertype) = wire::network(packet).map_err(|_| Outcome::Plain)?;
    let flow = if ethertype == ETHERTYPE_IPV4 {
        wire::ipv4(packet, network)
    } else {
        wire::ipv6(packet, network)
    };
    // Whatever is wrong with it is the network stack's business.
    let flow = flow.map_err(|_| Outcome::Plain)?;
    let is_gue = flow.shape == Shape::Ports
        && flow.protocol == PROTOCOL_UDP
        && flow.destination_port == gue_port;
    let is_ipip = flow.shape == Shape::Other
        && flow.fragment == 0
        && (flow.protocol == PROTOCOL_IPIP || flow.protocol == PROTOCOL_IPV6);
    if !is_gue && !is_ipip {
        return Err(Outcome::Plain);
    }
    let at = usize::from(flow.transport) + if is_gue { UDP_SIZE } else { 0 };
    let family = packet.span::<2>(at).ok_or(Outcome::Malformed)?.u8::<0>() >> 4;
    let expected = match (is_gue, flow.protocol) {
        (true, _) => family,
        (false, PROTOCOL_IPIP) => V4,
        (false, _) => V6,
    };
    let (destination, size) = match family {
        V4 => (packet.span::<20>(at).map(|it| Address::v4(it.u32::<16>())), 20),
        V6 => (packet.span::<40>(at).map(address), IPV6_SIZE),
        // GUE's other variants, which nobody here sends.
        _ => return Err(if is_gue { Outcome::Plain } else { Outcome::Malformed }),
    };
    let is_whole = at + size <= packet.length();
    match destination {
        Some(destination) if family == expected && is_whole => Ok(Inside {
            destination,
            network: network as u16,
            outer: (at - network) as u16,
            family,
            is_gue,
        }),
        _ => Err(Outcome::Malformed),
    }
}

#[inline(always)]
fn address(header: impl Bytes + Copy) -> Address {
    Address { high: header.u64::<24>(), low: header.u64::<32>() }
}
