//! What the programs are told that select sockets: shares of reactors, as words of a map that user space
//! writes, and rules of listeners.

/// Reactors that can be told apart.
pub const REACTORS_MAX: u32 = 256;
/// CPUs that can be told apart; connections that others receive are spread by hash.
pub const CPUS_MAX: u32 = 1024;

/// How many reactors there are.
pub const COUNT: u32 = 0;
/// Open connections up to which a reactor gets those that its own CPU receives.
pub const LIMIT: u32 = 1;
/// From here on, by CPU: its reactor and one, or 0.
pub const CPUS: u32 = 2;
/// From here on, by reactor: its open connections. The program counts those that it adds, until user space
/// says how many there are.
pub const OPEN: u32 = CPUS + CPUS_MAX;
/// Entries, each a u64.
pub const ENTRIES: u32 = OPEN + REACTORS_MAX;

/// The most open connections that a reactor may have, of so many over all, to get those of its own CPU: an
/// eighth above the mean, and a few, so that few connections stay where they come in.
#[must_use]
pub fn limit(total: u64, reactors: u64) -> u64 {
    let mean = total.checked_div(reactors).unwrap_or(0);
    mean + mean / 8 + 16
}

/// Rules that addresses are looked up in.
pub const RULES_MAX: u32 = 128;
/// The family of IPv4 addresses.
pub const AF_INET: u32 = 2;
/// The family of IPv6 addresses.
pub const AF_INET6: u32 = 10;

/// Addresses and ports that a listener serves without being bound to them. An IPv4 address is the low half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// The prefix.
    pub high: u64,
    /// The prefix.
    pub low: u64,
    /// Of the prefix: its bits are what is compared.
    pub mask_high: u64,
    /// The same.
    pub mask_low: u64,
    /// [`AF_INET`], [`AF_INET6`], or 0: there are no more rules.
    pub family: u32,
    /// Ports, from here.
    pub first_port: u32,
    /// To here.
    pub last_port: u32,
    /// Nothing.
    pub unused: u32,
}
