//! The Ethernet header of an answer.

use weir_abi::Bytes;

use crate::frame::Span;

/// Back to where it came from.
#[inline(always)]
pub(crate) fn turn<const N: usize>(header: Span<N>) {
    let (to, to_end) = (header.u32::<0>(), header.u16::<4>());
    let (from, from_end) = (header.u32::<6>(), header.u16::<10>());
    header.put_u32::<0>(from);
    header.put_u16::<4>(from_end);
    header.put_u32::<6>(to);
    header.put_u16::<10>(to_end);
}
