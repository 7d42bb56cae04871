//! Many map entries in one system call, which aya has no function for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::MapData;

const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;

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

/// Sets the value of every key to 1. Keys of `K`, values of `u32`, must be what the map holds.
pub(crate) fn update<K: Copy>(map: &MapData, keys: &[K]) -> io::Result<()> {
    let values = vec![1u32; keys.len().min(ENTRIES_MAX)];
    keys.chunks(ENTRIES_MAX)
        .try_for_each(|keys| call(BPF_MAP_UPDATE_BATCH, map, keys, Some(&values)))
}

/// Deletes every key.
pub(crate) fn delete<K: Copy>(map: &MapData, keys: &[K]) -> io::Result<()> {
    keys.chunks(ENTRIES_MAX).try_for_each(|keys| call(BPF_MAP_DELETE_BATCH, map, keys, None))
}

fn call<K: Copy>(
    command: libc::c_long,
    map: &MapData,
    keys: &[K],
    values: Option<&[u32]>,
) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        values: values.map_or(0, |values| values.as_ptr() as u64),
        count: u32::try_from(keys.len()).map_err(invalid)?,
        map_fd: u32::try_from(map.fd().as_fd().as_raw_fd()).map_err(invalid)?,
        ..Attributes::default()
    };
    // SAFETY: the kernel reads `count` keys and values, which `keys` and `values` (at least as long
    // as the longest chunk) hold until the call returns, and writes `count` inside `attributes`.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size_of::<Attributes>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
