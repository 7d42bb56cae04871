//! The packet in the network stack's memory, at tc.

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
    BPF_F_PSEUDO_HDR,
};
use aya_ebpf::helpers::{
    bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_adjust_room,
    bpf_skb_pull_data, bpf_skb_store_bytes,
};
use weir_abi::wire::V4;
use weir_abi::{Address, Flow, Packet};

use crate::frame::{OFFSET_MAX, Span};

/// Bytes that headers may take: outer ones with UDP, and the inner IP header.
const HEADERS: u32 = 160;

/// Where a TCP header has its checksum.
const TCP_CHECKSUM: usize = 16;
/// Where an IPv4 header has its own.
const IPV4_CHECKSUM: usize = 10;

/// Who sends a packet, or receives it.
#[derive(Clone, Copy)]
pub struct Endpoint {
    pub address: Address,
    pub port: u16,
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

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

    /// Makes room for an outer header of this family before the IP header.
    #[inline(always)]
    pub fn wrap(&self, bytes: usize, family: u8, is_udp: bool) -> Option<()> {
        let network =
            if family == V4 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 };
        let flags = network | if is_udp { BPF_F_ADJ_ROOM_ENCAP_L4_UDP } else { 0 };
        // SAFETY: a helper; spans are not used after it, which the verifier checks.
        let refused =
            unsafe { bpf_skb_adjust_room(self.0, bytes as i32, BPF_ADJ_ROOM_MAC, flags.into()) };
        (refused == 0).then_some(())
    }

    /// Writes numbers, which must be in the order of the network.
    #[inline(always)]
    pub fn store<T: Copy, const N: usize>(&self, at: usize, value: &[T; N]) -> Option<()> {
        let size = size_of::<[T; N]>() as u32;
        // SAFETY: a helper that copies `size` bytes from where they stand; it checks the packet's end.
        let refused =
            unsafe { bpf_skb_store_bytes(self.0, at as u32, value.as_ptr().cast(), size, 0) };
        (refused == 0).then_some(())
    }

    /// Puts another sender or receiver into a TCP packet, checksums included.
    #[inline(always)]
    pub fn readdress(&self, flow: &Flow, side: Side, from: Endpoint, to: Endpoint) -> Option<()> {
        let (network, transport) = (usize::from(flow.network), usize::from(flow.transport));
        let is_source = side == Side::Source;
        let sum = (transport + TCP_CHECKSUM) as u32;
        if flow.family == V4 {
            let [before, after] = [from, to].map(|it| (it.address.low as u32).to_be());
            let (before_long, after_long) = (u64::from(before), u64::from(after));
            let flags = u64::from(BPF_F_PSEUDO_HDR) | 4;
            let header = (network + IPV4_CHECKSUM) as u32;
            // SAFETY: helpers that check where they write.
            let refused = unsafe {
                bpf_l4_csum_replace(self.0, sum, before_long, after_long, flags)
                    | bpf_l3_csum_replace(self.0, header, before_long, after_long, 4)
            };
            if refused != 0 {
                return None;
            }
            self.store(network + if is_source { 12 } else { 16 }, &[after])?;
        } else {
            let words = |it: Endpoint| [it.address.high.to_be(), it.address.low.to_be()];
            let (mut before, mut after) = (words(from), words(to));
            let (old, new) = (before.as_mut_ptr().cast(), after.as_mut_ptr().cast());
            // SAFETY: helpers; the addresses are 16 bytes each, and they check where they write.
            let refused = unsafe {
                let difference = bpf_csum_diff(old, 16, new, 16, 0) as u64;
                bpf_l4_csum_replace(self.0, sum, 0, difference, BPF_F_PSEUDO_HDR.into())
            };
            if refused != 0 {
                return None;
            }
            self.store(network + if is_source { 8 } else { 24 }, &after)?;
        }
        let [before, after] = [from.port, to.port].map(u16::to_be);
        // SAFETY: a helper that checks where it writes.
        if unsafe { bpf_l4_csum_replace(self.0, sum, before.into(), after.into(), 2) } != 0 {
            return None;
        }
        self.store(transport + if is_source { 0 } else { 2 }, &[after])
    }

    /// What the socket that it comes from was marked with.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: the kernel's context, which lives as long as the program runs.
        unsafe { (*self.0).mark }
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
