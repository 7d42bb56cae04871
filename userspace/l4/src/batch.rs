//! Many map entries in one system call, which aya has no function for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// Entries of one call: bounded, so that a long list does not hold the CPU in the kernel.
const ENTRIES_MAX: usize = 16_384;

/// The part of `union bpf_attr` that batch commands read.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Removes the entry of a key, if there is one. `K` must be what the map holds.
pub(crate) fn delete<K: Copy>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut attributes = ElementAttributes {
        map_fd: u32::try_from(map.as_raw_fd())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        key: std::ptr::from_ref(key) as u64,
        ..ElementAttributes::default()
    };
    // SAFETY: the kernel reads a key, which lives until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_DELETE_ELEM,
            &raw mut attributes,
            size_of::<ElementAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The part of `union bpf_attr` that commands on an entry read.
#[repr(C)]
#[derive(Default)]
struct ElementAttributes {
    map_fd: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets the value of every key; there are as many values. `K` and `u32` must be what the map holds.
pub(crate) fn update<K: Copy>(map: BorrowedFd<'_>, keys: &[K], values: &[u32]) -> io::Result<()> {
    let mut chunks = keys.chunks(ENTRIES_MAX).zip(values.chunks(ENTRIES_MAX));
    chunks.try_for_each(|(keys, values)| call(map, keys, values))
}

fn call<K: Copy>(map: BorrowedFd<'_>, keys: &[K], values: &[u32]) -> io::Result<()> {
    if keys.len() != values.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(keys.len()).map_err(invalid)?,
        map_fd: u32::try_from(map.as_raw_fd()).map_err(invalid)?,
        ..Attributes::default()
    };
    // SAFETY: the kernel reads `count` keys and values, which `keys` and `values`, equally long, hold
    // until the call returns, and writes `count` inside `attributes`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_UPDATE_BATCH,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
