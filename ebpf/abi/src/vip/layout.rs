//! How the maps of layer 4 are laid out. Numbers are in the machine's order unless said otherwise.

use crate::{Address, Flow};

/// Changes when older maps cannot be read any more.
pub const LAYOUT: u32 = 1;
/// VIPs, and tables of slots; each has a number below this.
pub const VIPS_MAX: u32 = 16_384;
/// Backends; each has a number below this. Number 0 is [`LOCAL`].
pub const BACKENDS_MAX: u32 = 16_384;
/// Slots of a Maglev table: a prime, as its permutations need.
pub const SLOTS: u32 = 65_537;
/// Words that hold them, four a word.
pub const SLOT_WORDS: u32 = SLOTS.div_ceil(4);
/// Entries of the directory: four times as many as VIPs, so that a search ends soon.
pub const DIRECTORY: u32 = 65_536;
/// Entries that a search looks at.
pub const PROBES_MAX: u32 = 32;
/// Words of the filter of addresses: 65,536 bits.
pub const FILTER_WORDS: usize = 1_024;
/// The port of an entry for all ports of its address.
pub const ANY_PORT: u16 = 0;

/// The backend that is this host: a slot with it passes its packets to the network stack.
pub const LOCAL: u16 = 0;
/// No backend.
pub const NOWHERE: u16 = 0x7fff;
/// Of a slot: it is on its way to another backend, so its flows are looked up.
pub const MOVING: u16 = 0x8000;
/// Of [`Move::before`]: flows that are not remembered are new, because the others had their time.
pub const CLOSED: u32 = 0x8000;

/// Of [`Entry::how`]: NAT leaves the port as it is, because the VIP has all of them.
pub const KEEP_PORT: u32 = 1 << 16;
/// Of [`Fragment::how`]: from a backend to its client.
pub const RETURN: u32 = 1 << 17;

/// What user space shares with the program.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct State {
    /// [`LAYOUT`].
    pub layout: u32,
    /// Whether any VIP is forwarded by NAT: then sources may be backends.
    pub has_nat: u32,
    /// The UDP port of GUE.
    pub gue_port: u32,
    /// No more than a filling.
    pub unused: u32,
    /// A bit for each hash of an address that the directory has.
    pub filter: [u64; FILTER_WORDS],
}

/// What an address, port and protocol are to us. 32 bytes: two a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// Of the address.
    pub high: u64,
    /// Of the address.
    pub low: u64,
    /// Port, then protocol, then [`EntryKind`], from the least significant bits on: 16, 8, 8.
    pub key: u32,
    /// [`Forward`], then [`HashBy`], 8 bits each; then [`KEEP_PORT`].
    pub how: u32,
    /// The number of the VIP.
    pub vip: u32,
    /// The number of its table of slots, which other VIPs may share.
    pub table: u32,
}

/// Kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// None: a search ends here.
    Empty = 0,
    /// A VIP.
    Vip = 1,
    /// An address that some VIP has; port and protocol are 0.
    Address = 2,
    /// A listener of this host at the address of a VIP.
    Listener = 3,
    /// A backend of a VIP that is forwarded by NAT.
    NatBackend = 4,
    /// The source of our own encapsulation; port and protocol are 0.
    OwnSource = 5,
}

/// How packets go to backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Forward {
    /// Inside another IP packet.
    Ipip = 0,
    /// Inside UDP: Generic UDP encapsulation, variant 1 (no header of its own).
    Gue = 1,
    /// As they are, to the backend's Ethernet address.
    L2 = 2,
    /// With the backend as destination.
    Nat = 3,
}

/// What of a packet decides on its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HashBy {
    /// Addresses, ports and protocol.
    FiveTuple = 0,
    /// The client's address.
    Source = 1,
    /// The server's id in a QUIC connection id; before there is one, the five-tuple.
    QuicCid = 2,
}

/// A backend. 64 bytes: a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BackendEntry {
    /// Its own address.
    pub address: Address,
    /// Where our encapsulation says it comes from.
    pub source: Address,
    /// Bits of the source's last 32 that a flow's hash gives.
    pub spread: u32,
    /// Another one whenever the number gets another backend.
    pub stamp: u32,
    /// Of NAT.
    pub port: u16,
    /// 4 or 6; 0 is unused.
    pub family: u8,
    /// Not 0: dead, so that flows that are remembered for it go elsewhere.
    pub is_down: u8,
    /// No more than a filling.
    pub unused: [u32; 5],
}

impl BackendEntry {
    /// Whether flows may go on to it.
    #[inline(always)]
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        self.family != 0 && self.is_down == 0
    }
}

/// The way to a backend as the kernel told, kept by each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Hop {
    /// When it was asked for, jiffies.
    pub asked: u64,
    /// [`BackendEntry::stamp`] of whom it is for.
    pub stamp: u32,
    /// Interface; 0 is no way.
    pub interface: u32,
    /// Bytes of an IP packet that fit.
    pub mtu: u32,
    /// Ethernet addresses, receiver and sender, as they stand in a packet.
    pub ethernet: [u32; 3],
}

/// What a slot that is moving was before. 16 bytes. Times are ticks (2^30 ns) of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Move {
    /// The backend before, with [`CLOSED`]; [`NOWHERE`] where the slot is not moving.
    pub before: u32,
    /// When it began to move: what was remembered earlier does not count.
    pub since: u32,
    /// When a packet last went elsewhere than to the slot's backend. The program writes it.
    pub seen: u32,
    /// No more than a filling.
    pub unused: u32,
}

/// A flow that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// The sender.
    pub source: Address,
    /// The receiver.
    pub destination: Address,
    /// The sender's port, then the receiver's, 16 bits each from the most significant on.
    pub ports: u32,
    /// As IP numbers it.
    pub protocol: u32,
}

impl FlowKey {
    /// Of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn of(flow: &Flow) -> Self {
        Self {
            source: flow.source,
            destination: flow.destination,
            ports: (flow.source_port as u32) << 16 | flow.destination_port as u32,
            protocol: flow.protocol as u32,
        }
    }
}

/// Where a remembered flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowValue {
    /// The backend.
    pub backend: u16,
    /// The last bits of its [`BackendEntry::stamp`].
    pub stamp: u16,
    /// When it was last seen, ticks.
    pub seen: u32,
}

/// Ticks after which the receiver would not put a datagram together any more.
pub const FRAGMENT_TICKS: u32 = 30;
/// A tick of the clock that flows are stamped with: 2^30 ns.
pub const TICK_BITS: u32 = 30;

/// A datagram in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FragmentKey {
    /// The sender.
    pub source: Address,
    /// The receiver.
    pub destination: Address,
    /// Its identification.
    pub identification: u32,
    /// As IP numbers it.
    pub protocol: u32,
}

/// Where the later fragments of a datagram go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fragment {
    /// [`Entry::how`] of the VIP.
    pub how: u32,
    /// The VIP.
    pub vip: u32,
    /// The backend.
    pub backend: u32,
    /// The hash of the first one.
    pub hash: u32,
    /// [`BackendEntry::stamp`] of the backend.
    pub stamp: u32,
    /// When the first one came, ticks.
    pub seen: u32,
    /// The VIP's address.
    pub address: Address,
}

/// What a backend's answer is to look like. The key is the answer's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NatValue {
    /// The VIP's address.
    pub address: Address,
    /// The VIP's number.
    pub vip: u32,
    /// The VIP's port.
    pub port: u16,
    /// The backend's number.
    pub backend: u16,
}

/// A server's id in QUIC connection ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ServerKey {
    /// The table of slots.
    pub table: u32,
    /// The id.
    pub id: u32,
}

/// Reasons for which a VIP's packets are dropped, as [`VipCounter::drops`] numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Drops {
    /// [`crate::Drop::NoBackend`].
    NoBackend = 0,
    /// [`crate::Drop::TtlExceeded`].
    TtlExceeded = 1,
    /// [`crate::Drop::NoRoute`].
    NoRoute = 2,
    /// Too big once encapsulated; the sender was told.
    TooBig = 3,
}

/// Reasons that are counted a VIP.
pub const DROPS: usize = 4;

/// What one CPU counted for one VIP. 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VipCounter {
    /// Packets for it.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// TCP connections that began.
    pub flows: u64,
    /// Packets in slots that were moving.
    pub moving: u64,
    /// By [`Drops`].
    pub drops: [u64; DROPS],
}

/// What one CPU counted for one backend. 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BackendCounter {
    /// Packets sent to it.
    pub packets: u64,
    /// Their bytes as they came.
    pub bytes: u64,
    /// TCP connections that began.
    pub flows: u64,
    /// Packets in slots that were moving.
    pub moving: u64,
}
