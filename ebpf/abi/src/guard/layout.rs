//! How the maps of the guard are laid out. Numbers are in the machine's order unless said otherwise.

use crate::Address;
use crate::vip::VIPS_MAX;

/// Changes when older maps cannot be read any more.
pub const LAYOUT: u32 = 1;
/// What is guarded, VIPs and listeners; each has a number below this, as [`crate::vip::Entry::vip`].
pub const GUARDED_MAX: u32 = VIPS_MAX + 1;
/// The number under which all of them are counted together.
pub const TOTAL: u32 = VIPS_MAX;
/// Sources that have proven to be there.
pub const PROVEN_MAX: u32 = 262_144;
/// Sources that are counted one by one.
pub const HEAVY_MAX: u32 = 65_536;
/// Rows of the sketch, each with its own hash.
pub const SKETCH_ROWS: u32 = 4;
/// Cells of a row.
pub const SKETCH_CELLS: u32 = 65_536;

/// What the guard of a VIP or listener does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Mode {
    /// Nothing.
    Off = 0,
    /// Counts.
    Calm = 1,
    /// Drops what is over a bucket.
    Watch = 2,
    /// The same, and answers SYNs with cookies or challenges.
    Attack = 3,
}

/// Bits of [`State::switches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Switch {
    /// Packets of each source are counted, whatever they are for.
    Packets = 1,
    /// TCP flags that no stack sends together are looked for.
    TcpFlags = 1 << 1,
    /// Fragments are counted.
    Fragments = 1 << 2,
    /// UDP from ports of services that reflect is looked for.
    Reflection = 1 << 3,
    /// [`Switch::TcpFlags`] without effect.
    TryTcpFlags = 1 << 8,
    /// [`Switch::Fragments`] likewise.
    TryFragments = 1 << 9,
    /// [`Switch::Reflection`] likewise.
    TryReflection = 1 << 10,
    /// Everything without effect.
    TryAll = 1 << 11,
    /// There are sources that nothing touches.
    HasAllowed = 1 << 12,
    /// SYNs of sources are counted also while all is calm.
    Learn = 1 << 13,
}

/// Of [`State::offers`]: times, because the driver can know the kernel's (`tcp_timestamps` is 2).
pub const TIMES: u32 = 1;
/// Of [`State::offers`]: explicit congestion notification, because the kernel would (`tcp_ecn`).
pub const ECN: u32 = 2;

/// What is counted of sources, each with a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Packets of an address (IPv6: of a /64).
    Packets = 0,
    /// SYNs of an address (IPv6: of a /64).
    Syns = 1,
    /// SYNs of a /24 (IPv6: of a /48).
    SynsNear = 2,
    /// SYNs of a /16 (IPv6: of a /32).
    SynsFar = 3,
}

/// How many there are.
pub const KINDS: usize = 4;
/// The prefix length of each kind, IPv4 and IPv6.
pub const LENGTHS: [(u8, u8); KINDS] = [(32, 64), (32, 64), (24, 48), (16, 32)];

/// [`State::masks`], as the prefix lengths give them.
#[must_use]
pub const fn masks() -> [[u64; 2]; KINDS] {
    let mut masks = [[0; 2]; KINDS];
    let mut kind = 0;
    while kind < KINDS {
        let (four, six) = LENGTHS[kind];
        masks[kind] = [!((1 << (32 - four)) - 1), !((1 << (64 - six)) - 1)];
        kind += 1;
    }
    masks
}

/// What user space shares with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct State {
    /// [`LAYOUT`].
    pub layout: u32,
    /// Of [`Switch`].
    pub switches: u32,
    /// The time in steps of eight seconds since 1970: of what challenges are made.
    pub step: u32,
    /// What a SYN cookie says of us: the largest segment, IPv4 and IPv6.
    pub mss: [u32; 2],
    /// The window scale that the kernel will come to when a cookie comes back.
    pub window_scale: u32,
    /// What answers may offer besides: [`TIMES`], [`ECN`].
    pub offers: u32,
    /// Ticks for which a proof counts.
    pub proven_for: u32,
    /// A second, by [`Kind`], IPv4 and IPv6; 0 is without limit.
    pub limits: [u32; KINDS],
    /// The bits of a source that each kind counts together: the low half of an IPv4 address, the high half of
    /// one of IPv6.
    pub masks: [[u64; 2]; KINDS],
    /// Fragments a second and CPU.
    pub fragments: u32,
    /// Seconds over a limit after which user space is told; 0 is never.
    pub tell_after: u32,
    /// What sources are hashed with.
    pub secret: u64,
    /// The keys of challenges, of which the first makes them; a zero one is none.
    pub keys: [[u64; 2]; 2],
    /// The largest number of packets of a source in a second, as the sketch has it, since user space
    /// set it to zero; then the same of SYNs of a source.
    pub peaks: [u32; 2],
}

/// Where connections to a VIP or listener end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Place {
    /// At backends: SYNs are challenged.
    Elsewhere = 0,
    /// At sockets of this host, all of them: SYNs get cookies, and nobody else gets in.
    Here = 1,
    /// Those that begin now end here, others elsewhere: SYNs get cookies.
    Both = 2,
}

/// How a VIP or listener is guarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Guard {
    /// [`Mode`].
    pub mode: u32,
    /// Of [`Place`].
    pub place: u32,
    /// SYNs a second and CPU that go on to backends; 0 is without limit.
    pub cap: u32,
    /// No more than a filling.
    pub unused: u32,
}

/// What one CPU counted for one VIP or listener. 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// SYNs that came.
    pub syns: u64,
    /// SYNs that were answered with a cookie or a challenge.
    pub answered: u64,
    /// Cookies and challenges that came back.
    pub proven: u64,
    /// Packets that the guard dropped.
    pub dropped: u64,
    /// When a SYN last went to the kernel, jiffies.
    pub stamped: u64,
    /// SYNs that went on in a second: the second, ticks, and how many.
    pub window: [u32; 2],
    /// Resets that belong to nobody, likewise.
    pub resets: [u32; 2],
    /// Fragments, likewise; of [`TOTAL`] alone.
    pub fragments: [u32; 2],
}

/// Who is counted one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Key {
    /// The prefix.
    pub prefix: Address,
    /// [`Kind`].
    pub kind: u32,
    /// No more than a filling.
    pub unused: u32,
}

/// What is counted of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    /// The second, ticks.
    pub tick: u32,
    /// How many came in it.
    pub count: u32,
    /// For how many seconds in a row there were too many.
    pub over: u32,
    /// Whether user space was told.
    pub told: u32,
    /// What was dropped.
    pub dropped: u64,
}
