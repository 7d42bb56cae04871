//! The packet in the driver's memory.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use core::arch::asm;
use weir_abi::wire::{self, Walked};
use weir_abi::{Bytes, Packet};

/// Offsets at which headers are read; the verifier wants to see a bound.
pub(crate) const OFFSET_MAX: usize = 4096;

/// A packet as the driver received it.
#[derive(Clone, Copy)]
pub struct Frame(pub *mut xdp_md);

/// `N` bytes of a packet that are there. Gone once the packet grows or shrinks.
#[derive(Clone, Copy)]
pub struct Span<const N: usize>(pub(crate) usize);

impl Frame {
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

/// Reads a number in network order. The compiler takes apart what may be unaligned into bytes; this
/// machine need not.
macro_rules! get {
    ($($get:ident, $type:ident, $word:literal;)*) => {$(
        #[inline(always)]
        fn $get<const AT: usize>(self) -> $type {
            const { assert!(AT + size_of::<$type>() <= N) };
            let word: u64;
            // SAFETY: the span's bytes are there, and the number ends within them.
            unsafe {
                asm!(concat!("{word} = *(", $word, " *)({start} + {at})"),
                    word = out(reg) word, start = in(reg) self.0, at = const AT,
                    options(pure, readonly, nostack))
            };
            $type::from_be(word as $type)
        }
    )*};
}

/// Writes one.
macro_rules! put {
    ($($put:ident, $type:ident, $word:literal;)*) => {$(
        /// Writes a number in network order at this offset.
        #[inline(always)]
        pub fn $put<const AT: usize>(self, value: $type) {
            const { assert!(AT + size_of::<$type>() <= N) };
            let word = value.to_be() as u64;
            // SAFETY: the span's bytes are there, and the number ends within them.
            unsafe {
                asm!(concat!("*(", $word, " *)({start} + {at}) = {word}"),
                    word = in(reg) word, start = in(reg) self.0, at = const AT,
                    options(nostack))
            };
        }
    )*};
}

impl<const N: usize> Bytes for Span<N> {
    get! {
        u8, u8, "u8";
        u16, u16, "u16";
        u32, u32, "u32";
        u64, u64, "u64";
    }
}

impl<const N: usize> Span<N> {
    /// Where the bytes are, for a helper that reads them.
    #[inline(always)]
    pub fn pointer<T>(&self) -> *mut T {
        self.0 as *mut T
    }

    put! {
        put_u8, u8, "u8";
        put_u16, u16, "u16";
        put_u32, u32, "u32";
        put_u64, u64, "u64";
    }
}

impl Packet for Frame {
    type Span<const N: usize> = Span<N>;

    #[inline(always)]
    fn span<const N: usize>(&self, at: usize) -> Option<Span<N>> {
        if at > OFFSET_MAX {
            return None;
        }
        let start = self.start() + at;
        if start + N > self.end() { None } else { Some(Span(start)) }
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
