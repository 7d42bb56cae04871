//! The TCP header of a packet, copied to where it can be read at any place.

use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use core::ptr::{read_volatile, write_volatile};

use crate::frame::Frame;

/// Bytes of a header without options.
pub const HEADER_SIZE: u32 = 20;
/// The longest header with options.
const HEADER_SIZE_MAX: u32 = 60;
/// Options that are looked at: all that fit if each is a filling.
const OPTIONS_MAX: u32 = 40;

const SCALE_MAX: u32 = 14;

/// A TCP header, and what its options say. In a map, where the verifier does not follow what a loop
/// finds: else it would look at every order of options there is.
#[repr(C)]
pub struct Header {
    bytes: [u8; 64],
    /// Where the next option is.
    at: u32,
    /// Of the client; [`Header::NO_SCALE`] without the option.
    scale: u32,
    has_sack: u32,
    has_time: u32,
    /// The client's time, as it stands in the packet.
    time: u32,
}

#[map]
static TCP_HEADER: PerCpuArray<Header> = PerCpuArray::with_max_entries(1, 0);

macro_rules! fields {
    ($($name:ident, $set:ident;)*) => {$(
        #[inline(always)]
        pub fn $name(&self) -> u32 {
            // SAFETY: a field of a value that is there.
            unsafe { read_volatile(&raw const self.$name) }
        }

        #[inline(always)]
        fn $set(&mut self, value: u32) {
            // SAFETY: as above.
            unsafe { write_volatile(&raw mut self.$name, value) };
        }
    )*};
}

impl Header {
    /// A client that does not scale its window.
    pub const NO_SCALE: u32 = 15;

    fields! {
        at, set_at;
        scale, set_scale;
        has_sack, set_sack;
        has_time, set_time_known;
        time, set_time;
    }

    /// Copies the header of `size` bytes, options included; `size` must be 20 to 60.
    #[inline(always)]
    pub fn load(frame: &Frame, at: u32, size: u32) -> Option<&'static mut Self> {
        let header = TCP_HEADER.get_ptr_mut(0)?;
        if !(HEADER_SIZE..=HEADER_SIZE_MAX).contains(&size) {
            return None;
        }
        // SAFETY: this CPU's own value, and nothing else on this CPU runs meanwhile; the helper writes
        // `size` bytes, which fit.
        unsafe {
            let bytes = (&raw mut (*header).bytes).cast();
            if bpf_xdp_load_bytes(frame.0, at, bytes, size) != 0 {
                return None;
            }
            Some(&mut *header)
        }
    }

    /// Where the bytes are.
    #[inline(always)]
    pub fn pointer<T>(&mut self) -> *mut T {
        (&raw mut self.bytes).cast()
    }

    /// Reads the options of a header of so many bytes.
    #[inline(always)]
    pub fn read_options(&mut self, size: u32) {
        self.set_scale(Self::NO_SCALE);
        self.set_sack(0);
        self.set_time_known(0);
        if size == 40 && self.word(24) == 0x0402_080a && self.word(36) >> 8 == 0x0001_0303 {
            // As Linux has them: SACK, time, a filling, scale, behind the largest segment.
            self.set_sack(1);
            self.set_time_known(1);
            self.set_time(self.raw(28));
            self.set_offered_scale(self.word(36) & 0xff);
            return;
        }
        self.set_at(HEADER_SIZE);
        for _ in 0..OPTIONS_MAX {
            let at = self.at();
            if at >= size {
                break;
            }
            let kind = self.byte(at);
            if kind == 0 {
                break;
            }
            if kind == 1 {
                self.set_at(at + 1);
                continue;
            }
            let length = u32::from(self.byte(at + 1));
            if length < 2 || at + length > size {
                break;
            }
            match (kind, length) {
                (3, 3) => self.set_offered_scale(self.byte(at + 2).into()),
                (4, 2) => self.set_sack(1),
                (8, 10) => {
                    let bytes = [2, 3, 4, 5].map(|more| self.byte(at + more));
                    self.set_time(u32::from_ne_bytes(bytes));
                    self.set_time_known(1);
                }
                _ => {}
            }
            self.set_at(at + length);
        }
    }

    /// More than 14 counts as 14 (RFC 7323, 2.3).
    #[inline(always)]
    fn set_offered_scale(&mut self, scale: u32) {
        self.set_scale(if scale > SCALE_MAX { SCALE_MAX } else { scale });
    }

    #[inline(always)]
    fn byte(&self, at: u32) -> u8 {
        // SAFETY: the index is bounded.
        unsafe { read_volatile(&raw const self.bytes[at as usize & 63]) }
    }

    /// Four bytes as they stand, at a multiple of four below 64.
    #[inline(always)]
    fn raw(&self, at: usize) -> u32 {
        // SAFETY: constants that lie within the array, which is aligned as the struct is.
        unsafe { read_volatile((&raw const self.bytes).cast::<u32>().add(at / 4)) }
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u32 {
        u32::from_be(self.raw(at))
    }
}
