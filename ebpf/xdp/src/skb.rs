//! The packet in the network stack's memory, at tc.

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{__sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6};
use aya_ebpf::helpers::{bpf_skb_adjust_room, bpf_skb_pull_data};
use weir_abi::Packet;
use weir_abi::wire::V4;

use crate::frame::{OFFSET_MAX, Span};

/// Bytes that headers may take: outer ones with UDP, and the inner IP header.
const HEADERS: u32 = 160;

/// A packet as the network stack has it.
#[derive(Clone, Copy)]
pub struct Skb(pub *mut __sk_buff);

impl Skb {
    /// Brings the headers where they can be read.
    #[inline(always)]
    pub fn pull(&self) {
        let size = if self.size() < HEADERS { self.size() } else { HEADERS };
        // SAFETY: a helper; spans are not used after it, which the verifier checks.
        let _ = unsafe { bpf_skb_pull_data(self.0, size) };
    }

    /// Takes so many bytes away behind the Ethernet header; what follows is of this family.
    #[inline(always)]
    pub fn unwrap(&self, bytes: u16, family: u8) -> bool {
        let inner =
            if family == V4 { BPF_F_ADJ_ROOM_DECAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_DECAP_L3_IPV6 };
        // SAFETY: a helper; spans are not used after it, which the verifier checks.
        unsafe {
            bpf_skb_adjust_room(self.0, -i32::from(bytes), BPF_ADJ_ROOM_MAC, inner.into()) == 0
        }
    }

    #[inline(always)]
    fn size(&self) -> u32 {
        // SAFETY: the kernel's context, which lives as long as the program runs.
        unsafe { (*self.0).len }
    }
}

impl Packet for Skb {
    type Span<const N: usize> = Span<N>;

    #[inline(always)]
    fn span<const N: usize>(&self, at: usize) -> Option<Span<N>> {
        if at > OFFSET_MAX {
            return None;
        }
        // SAFETY: the kernel's context, which lives as long as the program runs.
        let (start, end) = unsafe { ((*self.0).data as usize + at, (*self.0).data_end as usize) };
        if start + N > end { None } else { Some(Span(start)) }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.size() as usize
    }
}
