//! Packets to backends inside other packets: IPIP and GUE.

use weir_abi::checksum::Sum;
use weir_abi::vip::{BackendEntry, Drops, Forward};
use weir_abi::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP, UDP_SIZE, V4,
};
use weir_abi::{Bytes, Drop, End, Packet, Send};

use super::forward::{MALFORMED, Target, age, exported, target};
use super::ip::Inner;
use super::way::Way;
use super::{hop, maps, reply};
use crate::frame::Frame;

const OUTER4_SIZE: u32 = 20;
const OUTER6_SIZE: u32 = 40;
const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
/// Ports for what has none of its own (RFC 6335).
const PORT_DYNAMIC: u16 = 0xc000;

exported! {
    /// Sends a packet inside another.
    weir_tunnel, Way, tunnel
}

#[inline(always)]
fn tunnel(frame: &Frame, way: &Way) -> Result<End, End> {
    let Target { backend, hop, inner } = target(frame, way)?;
    let is_gue = way.how & 0xff == Forward::Gue as u32;
    let outer = if backend.family == V4 { OUTER4_SIZE } else { OUTER6_SIZE };
    let overhead = if is_gue { outer + UDP_SIZE as u32 } else { outer };
    if inner.size + overhead > hop.mtu {
        way.count_drop(Drops::TooBig);
        let fits = hop.mtu.saturating_sub(overhead);
        return Ok(End(reply::weir_too_big(frame.0, way.network, way.family.into(), fits)));
    }
    age(frame, way, &inner)?;
    // VLAN tags, if there are any.
    let tags = frame.span::<8>(12).ok_or(MALFORMED)?.u64::<0>();
    if !frame.grow(overhead as i32) {
        return Err(End::dropped(Drop::NoRoom));
    }
    ethernet(frame, way, backend.family, tags, hop.ethernet).ok_or(MALFORMED)?;
    let outer = Outer { inner, is_gue, total: inner.size + overhead };
    let written = if backend.family == V4 {
        outer.write4(frame, way, backend)
    } else {
        outer.write6(frame, way, backend)
    };
    written.ok_or(MALFORMED)?;
    way.count();
    let how = if is_gue { Send::Gue } else { Send::Ipip };
    Ok(End::send(how, hop::egress(frame, way.network, hop.interface)))
}

/// Writes the Ethernet header before the outer one, with the tags that the packet had.
#[inline(always)]
fn ethernet(frame: &Frame, way: &Way, family: u8, tags: u64, addresses: [u32; 3]) -> Option<()> {
    let header = frame.span::<22>(0)?;
    hop::address(header, addresses);
    let ethertype = if family == V4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    match way.network {
        14 => header.put_u16::<12>(ethertype),
        18 => {
            header.put_u32::<12>((tags >> 32) as u32);
            header.put_u16::<16>(ethertype);
        }
        _ => {
            header.put_u64::<12>(tags);
            header.put_u16::<20>(ethertype);
        }
    }
    Some(())
}

/// The headers before the packet.
struct Outer {
    inner: Inner,
    is_gue: bool,
    /// Bytes of the outer IP packet.
    total: u32,
}

impl Outer {
    #[inline(always)]
    fn protocol(&self, way: &Way) -> u8 {
        match (self.is_gue, way.family) {
            (true, _) => PROTOCOL_UDP,
            (false, V4) => PROTOCOL_IPIP,
            (false, _) => PROTOCOL_IPV6,
        }
    }

    #[inline(always)]
    fn write4(&self, frame: &Frame, way: &Way, backend: &BackendEntry) -> Option<()> {
        let header = frame.span::<20>(way.network as usize)?;
        let source = backend.source.low as u32 & !backend.spread | way.hash & backend.spread;
        let destination = backend.address.low as u32;
        let first = 0x4500_0000 | u32::from(self.inner.class) << 16 | self.total;
        let time = u16::from(TTL) << 8 | u16::from(self.protocol(way));
        let sum = Sum::default().add(first).add(DONT_FRAGMENT.into()).add(time.into());
        header.put_u32::<0>(first);
        header.put_u32::<4>(DONT_FRAGMENT.into());
        header.put_u16::<8>(time);
        header.put_u16::<10>(sum.add(source).add(destination).checksum());
        header.put_u32::<12>(source);
        header.put_u32::<16>(destination);
        self.write_udp(frame, way, OUTER4_SIZE)
    }

    #[inline(always)]
    fn write6(&self, frame: &Frame, way: &Way, backend: &BackendEntry) -> Option<()> {
        let header = frame.span::<40>(way.network as usize)?;
        let spread = u64::from(backend.spread);
        let source = backend.source.low & !spread | u64::from(way.hash) & spread;
        let label = way.hash & 0x000f_ffff;
        header.put_u32::<0>(0x6000_0000 | u32::from(self.inner.class) << 20 | label);
        header.put_u16::<4>((self.total - OUTER6_SIZE) as u16);
        header.put_u16::<6>(u16::from(self.protocol(way)) << 8 | u16::from(TTL));
        header.put_u64::<8>(backend.source.high);
        header.put_u64::<16>(source);
        header.put_u64::<24>(backend.address.high);
        header.put_u64::<32>(backend.address.low);
        self.write_udp(frame, way, OUTER6_SIZE)
    }

    /// GUE of variant 1: the inner packet follows UDP at once. Without a checksum, which the inner
    /// packet has (RFC 6935 for IPv6).
    #[inline(always)]
    fn write_udp(&self, frame: &Frame, way: &Way, outer: u32) -> Option<()> {
        if !self.is_gue {
            return Some(());
        }
        let header = frame.span::<8>((way.network + outer) as usize)?;
        header.put_u16::<0>(PORT_DYNAMIC | way.hash as u16 & !PORT_DYNAMIC);
        header.put_u16::<2>(maps::gue_port());
        header.put_u16::<4>((self.total - outer) as u16);
        header.put_u16::<6>(0);
        Some(())
    }
}
