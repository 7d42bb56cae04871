//! The kernel side: loads and attaches the XDP program, owns its maps and the bans in them.
//!
//! `kernel` is what others see, `change` how bans change, `look` what is told of them; `tables` and
//! `datapath` speak to the kernel, `store` keeps on disk what was made live.
#![cfg_attr(not(feature = "kernel"), forbid(unsafe_code))]

mod change;
mod doctor;
mod enforce;
mod error;
mod guard_types;
mod kernel;
mod look;
mod store;
mod types;
mod vip_types;

#[cfg(feature = "kernel")]
mod attach;
#[cfg(feature = "kernel")]
mod backend;
#[cfg(feature = "kernel")]
mod batch;
#[cfg(feature = "kernel")]
mod datapath;
#[cfg(feature = "kernel")]
mod guard;
#[cfg(feature = "kernel")]
mod lookup;
#[cfg(feature = "kernel")]
mod mapped;
#[cfg(feature = "kernel")]
mod pins;
#[cfg(feature = "kernel")]
mod probes;
#[cfg(feature = "kernel")]
mod samples;
#[cfg(feature = "kernel")]
mod select;
#[cfg(feature = "kernel")]
mod tables;
#[cfg(feature = "kernel")]
mod tc;
#[cfg(feature = "kernel")]
mod vips;

#[cfg(feature = "measure")]
mod flood;
#[cfg(feature = "measure")]
pub mod measure;

#[cfg(feature = "measure")]
pub use flood::Flood;

#[cfg(not(feature = "kernel"))]
#[path = "datapath_absent.rs"]
mod datapath;
#[cfg(not(feature = "kernel"))]
#[path = "lookup_absent.rs"]
mod lookup;
#[cfg(not(feature = "kernel"))]
#[path = "select_absent.rs"]
mod select;

#[cfg(feature = "kernel")]
pub use backend::Decapsulator;
pub use change::Configured;
pub use datapath::detach;
pub use doctor::{Finding, doctor};
pub use enforce::{Holder, enforce};
pub use error::Error;
pub use guard_types::{GuardChange, GuardStats, Guarded, GuardedStats};
pub use kernel::Kernel;
pub use lookup::Lookup;
pub use select::{Group, Selector, unselect};
pub use types::{AttachMode, Attached, BanHits, Counter, ListStats, Loaded, Seen, Sight, Stats};
pub use vip_types::{
    BackendStats, Explained, FlowQuestion, Pool, PoolMember, VipProbe, VipStats, Wanted,
};
pub use weir_bans::{Changed, Decision, Hits, List, Merged};
pub use weir_guard::{Seen as GuardSeen, Setting as GuardSetting, Suggested, suggest};
