//! Packets to backends as they are, to the Ethernet address of the backend.

use aya_ebpf::bindings::xdp_md;
use weir_abi::vip::Drops;
use weir_abi::{Drop, End, Packet, Send};

use super::way::Way;
use super::{hop, ip, maps};
use crate::frame::Frame;

/// Exported for the verifier's sake.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_l2(context: *mut xdp_md, way: *const Way) -> u64 {
    if way.is_null() {
        return End::dropped(Drop::NoBackend).0;
    }
    // SAFETY: not null, and the verifier checks that the caller hands over a whole one.
    let (Ok(end) | Err(end)) = l2(&Frame(context), unsafe { &*way });
    end.0
}

#[inline(always)]
fn l2(frame: &Frame, way: &Way) -> Result<End, End> {
    let backend = maps::backend(way.backend).ok_or(End::dropped(Drop::NoBackend))?;
    let Some(hop) = hop::to(frame, way.backend, backend) else {
        way.count_drop(Drops::NoRoute);
        return Err(End::dropped(Drop::NoRoute));
    };
    let malformed = End::dropped(Drop::Malformed);
    let inner = ip::inner(frame, way.network, way.family).ok_or(malformed)?;
    if inner.ttl <= 1 {
        way.count_drop(Drops::TtlExceeded);
        return Err(End::dropped(Drop::TtlExceeded));
    }
    ip::decrement_ttl(frame, way.network, way.family, inner.ttl).ok_or(malformed)?;
    hop::address(frame.span::<12>(0).ok_or(malformed)?, hop.ethernet);
    way.count();
    Ok(End::send(Send::L2, hop::egress(frame, way.network, hop.interface)))
}
