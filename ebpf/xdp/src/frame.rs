//! The packet in the driver's memory.

use aya_ebpf::programs::XdpContext;
use weir_abi::Packet;

/// Offsets at which headers are read; the verifier wants to see a bound.
const OFFSET_MAX: usize = 4096;

/// A packet as the driver received it.
pub struct Frame<'a>(pub &'a XdpContext);

impl Packet for Frame<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at > OFFSET_MAX {
            return None;
        }
        let start = self.0.data() + at;
        if start + N > self.0.data_end() {
            return None;
        }
        // SAFETY: the N bytes at `start` end before `data_end`, which was just checked, and an
        // array of bytes has no alignment.
        Some(unsafe { core::ptr::read_unaligned(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.0.data_end() - self.0.data()
    }
}
