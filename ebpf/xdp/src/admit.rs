//! Which sources may send at all: the ban list, and the allow list above it.

use aya_ebpf::macros::map;
use aya_ebpf::maps::LpmTrie;
use aya_ebpf::maps::lpm_trie::Key;
use weir_abi::{Address, Drop, Flow, Pass, Verdict};

/// Banned IPv4 prefixes. User space sets how many fit.
#[map]
static BANS_V4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Banned IPv6 prefixes.
#[map]
static BANS_V6: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
/// IPv4 prefixes that no ban touches.
#[map]
static ALLOW_V4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
/// IPv6 prefixes that no ban touches.
#[map]
static ALLOW_V6: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The kernel takes a prefix tree only so.
const BPF_F_NO_PREALLOC: u32 = 1;

/// Ends the way of a packet whose source is banned, unless it is allowed. The allow list is asked
/// only after a hit, so that it costs a clean packet nothing.
#[inline(always)]
pub(crate) fn source(flow: &Flow) -> Result<(), Verdict> {
    let is_banned = match flow.source {
        Address::V4(address) => BANS_V4.get(&Key::new(32, address)).is_some(),
        Address::V6(address) => BANS_V6.get(&Key::new(128, address)).is_some(),
    };
    if !is_banned {
        return Ok(());
    }
    let is_allowed = match flow.source {
        Address::V4(address) => ALLOW_V4.get(&Key::new(32, address)).is_some(),
        Address::V6(address) => ALLOW_V6.get(&Key::new(128, address)).is_some(),
    };
    Err(if is_allowed { Verdict::Pass(Pass::Allowed) } else { Verdict::Drop(Drop::Banned) })
}
