//! The kernel side of a configuration: where XDP attaches and what it drops.

use std::path::PathBuf;

use crate::{Cidr, Guard};

/// The `kernel:` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// How programs attach; `Off` when there is no `kernel:` section.
    pub mode: KernelMode,
    /// Interface names, without duplicates; never empty unless the mode is `Off`.
    pub interfaces: Vec<String>,
    /// What is banned from the start.
    pub bans: Bans,
    /// Sources that no ban touches.
    pub allow: Vec<Cidr>,
    /// Folder of a BPF file system in which maps and links outlive the process; `None` is nowhere.
    pub pin: Option<PathBuf>,
    /// Flows that can be remembered: those of slots that move, and those of NAT.
    pub flows: u32,
    /// What packets are wrapped in on their way to backends.
    pub tunnel: Tunnel,
    /// What floods meet.
    pub guard: Guard,
}

/// The `kernel.tunnel:` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Where encapsulated packets say they come from, at most one a family; of a prefix longer than
    /// needed for one address, the flow decides on the rest. A family without one uses the address
    /// that this host has towards the backend.
    pub sources: Vec<Cidr>,
    /// The UDP port of GUE.
    pub gue_port: u16,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self { sources: Vec::new(), gue_port: Self::GUE_PORT_DEFAULT }
    }
}

impl Tunnel {
    /// The port that IANA gave to GUE.
    pub const GUE_PORT_DEFAULT: u16 = 6080;
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            mode: KernelMode::Off,
            interfaces: Vec::new(),
            bans: Bans::default(),
            allow: Vec::new(),
            pin: None,
            flows: Self::FLOWS_DEFAULT,
            tunnel: Tunnel::default(),
            guard: Guard::default(),
        }
    }
}

/// How the XDP program attaches to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelMode {
    /// In the driver where it can, else generic.
    Auto,
    /// In the driver, or not at all.
    Driver,
    /// In the network stack: slower, works with every driver.
    Generic,
    /// No kernel side.
    Off,
}

impl KernelMode {
    /// Every mode with the word users type for it.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("auto", Self::Auto),
        ("driver", Self::Driver),
        ("generic", Self::Generic),
        ("off", Self::Off),
    ];
}

/// The `kernel.bans:` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bans {
    /// How many prefixes of each family may be banned.
    pub capacity: u32,
    /// Lists loaded at start, at reload and when they change.
    pub files: Vec<BanFile>,
    /// Nothing is dropped for a ban, but counted as if.
    pub dry_run: bool,
}

/// A list that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanFile {
    /// Absolute, or relative to the working directory of the process.
    pub path: PathBuf,
    /// Its packets are counted, but not dropped.
    pub dry_run: bool,
}

impl Default for Bans {
    fn default() -> Self {
        Self { capacity: Self::CAPACITY_DEFAULT, files: Vec::new(), dry_run: false }
    }
}

impl Kernel {
    /// Where maps and links outlive the process unless configured.
    pub const PIN_DEFAULT: &str = "/sys/fs/bpf/weir";
    /// Flows that can be remembered unless configured: some 15 MB.
    pub const FLOWS_DEFAULT: u32 = 65_536;
    /// The most that may be asked for.
    pub const FLOWS_MAX: u32 = 16_000_000;
}

impl Bans {
    /// Prefixes a family where the configuration names none.
    pub const CAPACITY_DEFAULT: u32 = 2_000_000;
    /// The most that may be asked for.
    pub const CAPACITY_MAX: u32 = 16_000_000;
}
