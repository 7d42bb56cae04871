//! The packet in the driver's memory.

use aya_ebpf::programs::XdpContext;
use weir_abi::Packet;

/// Offsets at which headers are read; the verifier wants to see a bound.
const OFFSET_MAX: usize = 4096;

/// A packet as the driver received it.
pub struct Frame<'a>(pub &'a XdpContext);

impl Frame<'_> {
    /// Where the `N` bytes at `at` begin, if all of them are there.
    #[inline(always)]
    fn start<const N: usize>(&self, at: usize) -> Option<usize> {
        if at > OFFSET_MAX {
            return None;
        }
        let start = self.0.data() + at;
        if start + N > self.0.data_end() { None } else { Some(start) }
    }
}

impl Packet for Frame<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let start = self.start::<N>(at)?;
        // SAFETY: the N bytes at `start` end before `data_end`, as `start` has checked, and an array
        // of bytes has no alignment.
        Some(unsafe { core::ptr::read_unaligned(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn read_u32(&self, at: usize) -> Option<u32> {
        let start = self.start::<4>(at)?;
        let word: u64;
        // The compiler reads what may be unaligned byte by byte; this machine need not.
        // SAFETY: the four bytes at `start` end before `data_end`, as `start` has checked.
        unsafe {
            core::arch::asm!("{word} = *(u32 *)({start} + 0)", word = out(reg) word, start = in(reg) start)
        };
        Some(u32::from_be(word as u32))
    }

    #[inline(always)]
    fn read_u64(&self, at: usize) -> Option<u64> {
        let start = self.start::<8>(at)?;
        let word: u64;
        // SAFETY: the eight bytes at `start` end before `data_end`, as `start` has checked.
        unsafe {
            core::arch::asm!("{word} = *(u64 *)({start} + 0)", word = out(reg) word, start = in(reg) start)
        };
        Some(u64::from_be(word))
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.0.data_end() - self.0.data()
    }
}
