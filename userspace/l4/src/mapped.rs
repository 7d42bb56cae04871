//! A kernel array's memory, shared with this process.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use weir_bans::Words;

/// The values of an array map (`BPF_F_MMAPABLE`), as words. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// Lives as long as `self`: lent out by [`Mapped::words`] alone.
    words: &'static [AtomicU32],
}

impl Mapped {
    /// Maps the first `count` words of an array whose values have a multiple of eight bytes.
    pub(crate) fn of(map: &MapData, count: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(count * size_of::<AtomicU32>());
        let size = size.ok_or(io::ErrorKind::InvalidInput)?;
        let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: no address is asked for, so nothing that exists is replaced.
        let start = unsafe { mmap(None, size, access, flags, map.fd().as_fd(), 0) }?;
        // SAFETY: the kernel gave `size` bytes at a page's start, readable and writable until they
        // are unmapped. Others (the kernel) write them too, which atomics allow; any bits are a value.
        let words =
            unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<AtomicU32>(), count) };
        Ok(Self { words })
    }

    pub(crate) fn words(&self) -> Words<'_> {
        Words(self.words)
    }

    /// `count` pairs of words from an even one on, as u64.
    pub(crate) fn pairs(&self, from: usize, count: usize) -> &[AtomicU64] {
        let words = self.words.get(from..from + 2 * count).unwrap_or_default();
        // SAFETY: a page's start is aligned, so an even word is to eight bytes; `words` has twice as
        // many as there are pairs, or none; any bits are a value.
        let (before, pairs, _) = unsafe { words.align_to::<AtomicU64>() };
        if before.is_empty() { pairs } else { &[] }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let start = NonNull::from(self.words).cast();
        // SAFETY: mapped by `of` with this address and size, and lent out no longer than `self` lives.
        let _ = unsafe { munmap(start, size_of_val(self.words)) };
    }
}
