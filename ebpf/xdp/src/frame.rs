//! The packet in the driver's memory.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use core::arch::asm;
use weir_abi::Packet;
use weir_abi::wire::{self, Walked};

/// Offsets at which headers are read; the verifier wants to see a bound.
const OFFSET_MAX: usize = 4096;

/// A packet as the driver received it.
#[derive(Clone, Copy)]
pub struct Frame(pub *mut xdp_md);

/// `N` bytes of a packet that are there. Gone once the packet grows or shrinks.
#[derive(Clone, Copy)]
pub struct Span<const N: usize>(usize);

impl Frame {
    /// The `N` bytes at `at`, if all of them are there.
    #[inline(always)]
    pub fn span<const N: usize>(&self, at: usize) -> Option<Span<N>> {
        if at > OFFSET_MAX {
            return None;
        }
        let start = self.start() + at;
        if start + N > self.end() { None } else { Some(Span(start)) }
    }

    /// The interface it came in by.
    #[inline(always)]
    pub fn interface(&self) -> u32 {
        // SAFETY: the kernel's context, which lives as long as the program runs.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Makes room for so many bytes before the packet, or takes as many away where it is negative.
    #[inline(always)]
    pub fn grow(&self, bytes: i32) -> bool {
        // SAFETY: a helper; spans are not used after it, which the verifier checks.
        unsafe { bpf_xdp_adjust_head(self.0, -bytes) == 0 }
    }

    /// Takes so many bytes away from the packet's end.
    #[inline(always)]
    pub fn cut(&self, bytes: i32) -> bool {
        // SAFETY: a helper; spans are not used after it, which the verifier checks.
        unsafe { bpf_xdp_adjust_tail(self.0, -bytes) == 0 }
    }

    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the kernel's context, which lives as long as the program runs.
        unsafe { (*self.0).data as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: the kernel's context, which lives as long as the program runs.
        unsafe { (*self.0).data_end as usize }
    }
}

/// The compiler takes apart what may be unaligned into bytes; this machine need not.
macro_rules! accesses {
    ($($get:ident, $put:ident, $type:ident, $word:literal;)*) => {$(
        /// A number in network order at this offset.
        #[inline(always)]
        pub fn $get<const AT: usize>(self) -> $type {
            const { assert!(AT + size_of::<$type>() <= N) };
            let word: u64;
            // SAFETY: the span's bytes are there, and the number ends within them.
            unsafe {
                asm!(concat!("{word} = *(", $word, " *)({start} + {at})"),
                    word = out(reg) word, start = in(reg) self.0, at = const AT)
            };
            $type::from_be(word as $type)
        }

        /// Writes one.
        #[inline(always)]
        pub fn $put<const AT: usize>(self, value: $type) {
            const { assert!(AT + size_of::<$type>() <= N) };
            let word = value.to_be() as u64;
            // SAFETY: the span's bytes are there, and the number ends within them.
            unsafe {
                asm!(concat!("*(", $word, " *)({start} + {at}) = {word}"),
                    word = in(reg) word, start = in(reg) self.0, at = const AT)
            };
        }
    )*};
}

impl<const N: usize> Span<N> {
    accesses! {
        u8, put_u8, u8, "u8";
        u16, put_u16, u16, "u16";
        u32, put_u32, u32, "u32";
        u64, put_u64, u64, "u64";
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn read<const M: usize>(&self, at: usize) -> Option<[u8; M]> {
        let span = self.span::<M>(at)?;
        // SAFETY: the M bytes are there, as `span` has checked, and an array of bytes has no alignment.
        Some(unsafe { core::ptr::read_unaligned(span.0 as *const [u8; M]) })
    }

    #[inline(always)]
    fn read_u32(&self, at: usize) -> Option<u32> {
        self.span::<4>(at).map(Span::u32::<0>)
    }

    #[inline(always)]
    fn read_u64(&self, at: usize) -> Option<u64> {
        self.span::<8>(at).map(Span::u64::<0>)
    }

    #[inline(always)]
    fn walk(&self, at: usize, next: u8) -> Walked {
        Walked(weir_walk(self.0, at as u32, next.into()))
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.end() - self.start()
    }
}

/// Exported, so that the verifier looks at the walk once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_walk(context: *mut xdp_md, at: u32, next: u32) -> u64 {
    wire::walk(&Frame(context), at as usize & OFFSET_MAX - 1, next as u8).0
}
