//! Fragments without ports follow the one that had them.

use aya_ebpf::bindings::xdp_md;
use weir_abi::vip::{FRAGMENT_TICKS, Fragment, FragmentKey, LOCAL, find_address};
use weir_abi::{Drop, End, Flow, Packet};

use super::maps;
use super::way::{Notes, Way};
use crate::frame::Frame;

/// Remembers where a first fragment goes. Exported, so that it has a stack of its own.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_remember(notes: *const Notes) -> u32 {
    if notes.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier checks that the caller hands over whole ones.
    let Notes { flow, way, .. } = unsafe { &*notes };
    let Way { how, vip, backend, hash, address, .. } = *way;
    let stamp = maps::backend(backend).map_or(0, |entry| entry.stamp);
    let seen = maps::tick();
    let value = Fragment { how, vip, backend, hash, stamp, seen, address };
    maps::remember_fragment(&key(flow), &value);
    0
}

#[inline(always)]
fn key(flow: &Flow) -> FragmentKey {
    FragmentKey {
        source: flow.source,
        destination: flow.destination,
        identification: flow.fragment,
        protocol: flow.protocol.into(),
    }
}

/// The way of a later fragment. Exported for the verifier's sake.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_follow(context: *mut xdp_md, notes: *mut Notes) -> u64 {
    if notes.is_null() {
        return End::GO_ON.0;
    }
    // SAFETY: not null, and the verifier checks that the caller hands over whole ones.
    follow(&Frame(context), unsafe { &mut *notes }).0
}

#[inline(always)]
fn follow(frame: &Frame, notes: &mut Notes) -> End {
    let Notes { flow, way, .. } = notes;
    let Some(first) = first(flow) else {
        return match find_address(&maps::Directory, flow.destination) {
            Some(_) => End::dropped(Drop::OrphanFragment),
            None => End::GO_ON,
        };
    };
    *way = Way {
        vip: first.vip,
        table: 0,
        how: first.how,
        backend: first.backend,
        hash: first.hash,
        network: flow.network.into(),
        transport: 0,
        size: frame.length() as u32,
        family: flow.family,
        protocol: flow.protocol,
        is_new: false,
        is_moving: false,
        port: 0,
        address: first.address,
    };
    End::FORWARD
}

/// What is known of the first fragment, unless that is long ago or its backend is another by now.
#[inline(always)]
fn first(flow: &Flow) -> Option<&'static Fragment> {
    // SAFETY: the entry is freed only after this run; if another datagram gets it meanwhile, one
    // fragment goes astray.
    let first = unsafe { &*maps::fragment(&key(flow))? };
    let is_late = maps::tick().wrapping_sub(first.seen) > FRAGMENT_TICKS;
    let backend = maps::backend(first.backend)?;
    let is_here = first.backend == u32::from(LOCAL);
    let is_other = backend.stamp != first.stamp || (backend.family == 0 && !is_here);
    if is_late || is_other { None } else { Some(first) }
}
