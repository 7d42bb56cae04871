//! Why the kernel side could not be set up or changed.

#[cfg(feature = "kernel")]
use std::io;
use std::path::PathBuf;

use weir_model::Cidr;

/// What failed, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary was built with `--no-default-features`.
    #[error(
        "this weir was built without its kernel side: run it with `--kernel off`, \
             or build it with the eBPF toolchain (`cargo xtask build`)"
    )]
    Absent,
    /// An interface of the configuration does not exist.
    #[error("attach XDP to {name}: there is no such interface; there are: {known}")]
    NoInterface {
        /// As configured.
        name: String,
        /// The interfaces that exist.
        known: String,
    },
    /// The process may not load BPF programs.
    #[error(
        "{attempt}: not permitted; run as root, or with the capabilities \
             CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or with `--kernel off`"
    )]
    NotPermitted {
        /// What was attempted.
        attempt: String,
    },
    /// Somebody else's program is on the interface.
    #[error(
        "attach XDP to {name}: another XDP program is attached already \
             (see `ip link show {name}`; `ip link set {name} xdp off` removes it)"
    )]
    Occupied {
        /// The interface.
        name: String,
    },
    /// The driver does not run XDP as the interface is set, and `mode: driver` rules everything else
    /// out.
    #[error(
        "attach XDP to {name}: its driver refuses ({cause}); \
             use `mode: auto` or `mode: generic`, or try a smaller MTU"
    )]
    NoDriverMode {
        /// The interface.
        name: String,
        /// What the driver said.
        cause: String,
    },
    /// The object, the kernel or a map is not as expected.
    #[error("{attempt}: {cause}")]
    Kernel {
        /// What was attempted.
        attempt: String,
        /// What the kernel said.
        cause: String,
    },
    /// More bans than the configuration has room for.
    #[error(
        "{asked} {family} prefixes would be banned, but `kernel.bans.capacity` is {capacity}: \
             raise it and restart"
    )]
    Full {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Prefixes after the change.
        asked: usize,
        /// Prefixes that fit.
        capacity: usize,
    },
    /// More allowed prefixes than there may be.
    #[error("{asked} prefixes would be allowed, but no more than {capacity} may be")]
    AllowedFull {
        /// Prefixes after the change.
        asked: usize,
        /// Prefixes that fit.
        capacity: usize,
    },
    /// A ban of every address of a family.
    #[error(
        "{0} is every address of its family: nobody could reach this host any more \
             (`--force` bans it all the same)"
    )]
    Everything(Cidr),
    /// A ban of what is protected.
    #[error("{cidr} is protected: {why} (`--force` bans it all the same)")]
    Protected {
        /// What was to be banned.
        cidr: Cidr,
        /// Loopback, a backend, the operator's own.
        why: String,
    },
    /// A list is being loaded.
    #[error("another list is being loaded: try again when it is done")]
    Loading,
    /// Another process has the pins.
    #[error(
        "{} is held by another weir that runs: stop it, or give this one its own `kernel.pin`",
        folder.display()
    )]
    PinsTaken {
        /// The folder of pins.
        folder: PathBuf,
    },
    /// The state folder cannot be read or written.
    #[error("{attempt}: {cause}")]
    Store {
        /// What was attempted.
        attempt: String,
        /// What the kernel said.
        cause: std::io::Error,
    },
}

#[cfg(feature = "kernel")]
impl Error {
    /// An error of the kernel in `attempt`, told apart by its number.
    pub(crate) fn of(
        attempt: impl Into<String>,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let attempt = attempt.into();
        let mut source = Some(error);
        while let Some(current) = source {
            if let Some(io) = current.downcast_ref::<io::Error>()
                // EACCES is the verifier's, which did not like the program.
                && io.raw_os_error() == Some(libc::EPERM)
            {
                return Self::NotPermitted { attempt };
            }
            source = current.source();
        }
        // A verifier's log has hundreds of lines; its last ones say what is wrong.
        let cause = error.to_string();
        let lines: Vec<_> = cause.lines().collect();
        let mut last = lines.get(lines.len().saturating_sub(9)..).unwrap_or_default().join(" ");
        let innermost = innermost(error);
        if !last.contains(&innermost) {
            last = format!("{last}: {innermost}");
        }
        Self::Kernel { attempt, cause: last }
    }
}

/// The innermost cause: what the kernel said.
#[cfg(feature = "kernel")]
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
