//! Layer 4: what the kernel's maps hold of VIPs and backends, and how a packet finds its way through
//! them. User space's tests run the same search over tables in plain memory.

mod directory;
mod hash;
mod layout;
mod quic;

pub use directory::{Directory, find, find_address, find_own};
pub use hash::{directory_hash, filter_bit, flow_hash, slot_of, source_hash};
pub use layout::{
    ANY_PORT, BACKENDS_MAX, BackendCounter, BackendEntry, CLOSED, DIRECTORY, DROPS, Drops, Entry,
    EntryKind, FILTER_WORDS, FRAGMENT_TICKS, FlowKey, FlowValue, Forward, Fragment, FragmentKey,
    HashBy, Hop, KEEP_PORT, LAYOUT, LOCAL, MOVING, Move, NOWHERE, NatValue, PROBES_MAX, RETURN,
    SLOT_WORDS, SLOTS, ServerKey, State, TICK_BITS, VIPS_MAX, VipCounter,
};
pub use quic::server_id;
