//! How a packet gets to its backend, and what all ways there have in common.

use weir_abi::vip::{BackendEntry, Drops, Forward, Hop, LOCAL, RETURN};
use weir_abi::{Drop, End, Pass, Verdict};

use super::ip::Inner;
use super::way::{Notes, Way};
use super::{hop, ip, l2, maps, nat, tunnel};
use crate::frame::Frame;

/// Sends the packet of these notes to its backend, or from one to its client.
#[inline(always)]
pub fn send(frame: &Frame, notes: &Notes) -> Result<End, End> {
    let way = &notes.way;
    if way.backend == u32::from(LOCAL) {
        way.count();
        return Ok(End::of(Verdict::Pass(Pass::Local)));
    }
    let end = match way.how & 0xff {
        _ if way.how & RETURN != 0 => nat::weir_answer(frame.0, notes),
        how if how == Forward::L2 as u32 => l2::weir_l2(frame.0, way),
        how if how == Forward::Nat as u32 => nat::weir_nat(frame.0, way),
        _ => tunnel::weir_tunnel(frame.0, way),
    };
    Ok(End(end))
}

/// Where a packet is to go, and what it is.
pub struct Target {
    pub backend: &'static BackendEntry,
    pub hop: &'static Hop,
    pub inner: Inner,
}

/// Looks up the backend of a way, and the way there.
#[inline(always)]
pub fn target(frame: &Frame, way: &Way) -> Result<Target, End> {
    let backend = maps::backend(way.backend).filter(|backend| backend.family != 0);
    let Some(backend) = backend else {
        way.count_drop(Drops::NoBackend);
        return Err(End::dropped(Drop::NoBackend));
    };
    let Some(hop) = hop::to(frame, way.backend, backend) else {
        way.count_drop(Drops::NoRoute);
        return Err(End::dropped(Drop::NoRoute));
    };
    let inner = ip::inner(frame, way.network, way.family).ok_or(MALFORMED)?;
    Ok(Target { backend, hop, inner })
}

/// Takes one from the time to live, or ends the packet's way.
#[inline(always)]
pub fn age(frame: &Frame, way: &Way, inner: &Inner) -> Result<(), End> {
    if inner.ttl <= 1 {
        way.count_drop(Drops::TtlExceeded);
        return Err(End::dropped(Drop::TtlExceeded));
    }
    ip::decrement_ttl(frame, way.network, way.family, inner.ttl).ok_or(MALFORMED)
}

/// The end of a packet that is shorter than it said.
pub const MALFORMED: End = End::dropped(Drop::Malformed);

/// A stage as a function that the verifier looks at by itself, with a stack of its own.
macro_rules! exported {
    ($(#[$about:meta])* $name:ident, $argument:ty, $stage:path) => {
        $(#[$about])*
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(
            context: *mut aya_ebpf::bindings::xdp_md,
            argument: *const $argument,
        ) -> u64 {
            if argument.is_null() {
                return weir_abi::End::GO_ON.0;
            }
            // SAFETY: not null, and the verifier checks that the caller hands over a whole one.
            let (Ok(end) | Err(end)) =
                $stage(&$crate::frame::Frame(context), unsafe { &*argument });
            end.0
        }
    };
}
pub(crate) use exported;
