//! Which reactor gets a connection: that of the CPU which received it, unless it has more than its share;
//! then the emptier of two that the hash names.
#![no_std]
#![no_main]

use core::ptr;

use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_sk_select_reuseport};
use aya_ebpf::macros::{map, sk_reuseport};
use aya_ebpf::maps::{Array, SockMap};
use aya_ebpf::programs::SkReuseportContext;
use weir_abi::sock::{COUNT, CPUS, CPUS_MAX, ENTRIES, LIMIT, OPEN, REACTORS_MAX};
use weir_sock as _;

const MMAPABLE: u32 = 1 << 10;

/// What user space tells; see `weir_abi::sock`.
#[map]
static SHARES: Array<u64> = Array::with_max_entries(ENTRIES, MMAPABLE);

/// By reactor. No REUSEPORT_SOCKARRAY: a socket can be in one of those only, and for as long as an upgrade
/// lasts there are two processes with a map each.
#[map]
static SOCKETS: SockMap = SockMap::with_max_entries(REACTORS_MAX, 0);

/// A new connection to the group of sockets. Where nothing is selected the kernel goes by the hash.
#[sk_reuseport]
pub fn weir_select(context: SkReuseportContext) -> u32 {
    let mut reactor = reactor(context.hash());
    let sockets = ptr::from_ref(&SOCKETS).cast_mut().cast();
    // SAFETY: the kernel's context, a map of sockets, and a key that lives until the helper returns.
    let selected = unsafe {
        bpf_sk_select_reuseport(context.md, sockets, ptr::from_mut(&mut reactor).cast(), 0)
    };
    if selected == 0 {
        add(reactor);
    }
    SK_PASS
}

#[inline(always)]
fn reactor(hash: u32) -> u32 {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let own = if cpu < CPUS_MAX { told(CPUS + cpu) as u32 } else { 0 };
    if own != 0 && open(own - 1) <= told(LIMIT) {
        return own - 1;
    }
    let count = (told(COUNT) as u32).max(1);
    // The multiplication makes the second choice one that the first says little about.
    let (first, second) = (hash % count, (hash.wrapping_mul(0x9E37_79B1) >> 16) % count);
    if open(second) < open(first) { second } else { first }
}

#[inline(always)]
fn open(reactor: u32) -> u64 {
    told(OPEN + reactor)
}

#[inline(always)]
fn told(entry: u32) -> u64 {
    match SHARES.get_ptr(entry) {
        // SAFETY: an entry of the map, which stays readable while the program runs; user space writes it.
        Some(value) => unsafe { ptr::read_volatile(value) },
        None => 0,
    }
}

/// Not atomic: user space says soon how many there are.
#[inline(always)]
fn add(reactor: u32) {
    if let Some(value) = SHARES.get_ptr_mut(OPEN + reactor) {
        // SAFETY: an entry of the map, which stays readable while the program runs.
        let open = unsafe { ptr::read_volatile(value) };
        // SAFETY: as above, and writable.
        unsafe { ptr::write_volatile(value, open + 1) };
    }
}
