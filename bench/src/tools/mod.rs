//! Our own servers and clients, run as processes of their own on a core of their own.

mod floor;
pub(crate) mod handshakes;
mod messages;
mod origin;
mod pace;
pub(crate) mod socket;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

/// What this program is when it is not the benchmark itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// Copy bytes between a client's connection and one of its own to the origin
    Floor { listen: SocketAddr, origin: SocketAddr },
    /// Answer requests in chunks
    Chunked { listen: SocketAddr, body_size: usize },
    /// Send back what comes
    Echo { listen: SocketAddr },
    /// Answer numbers (8 bytes, least first) by as many bytes
    Stream { listen: SocketAddr },
    /// Open a TLS connection a request; print how many were answered
    Handshakes(handshakes::Options),
    /// Exchange messages; print how many were answered
    Messages(messages::Options),
    /// Send requests at a constant rate; print p50 and p99 in microseconds
    Pace(pace::Options),
}

impl Tool {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Floor { listen, origin } => floor::run(*listen, *origin),
            Self::Chunked { listen, body_size } => origin::chunked(*listen, *body_size),
            Self::Echo { listen } => origin::echo(*listen),
            Self::Stream { listen } => origin::stream(*listen),
            Self::Handshakes(options) => handshakes::run(options),
            Self::Messages(options) => messages::run(options),
            Self::Pace(options) => pace::run(options),
        }
    }
}

/// What every client is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Aim {
    pub(crate) address: SocketAddr,
    #[arg(long)]
    pub(crate) connections: usize,
    #[arg(long)]
    milliseconds: u64,
    #[arg(long, default_value = "/answer")]
    pub(crate) path: String,
    /// The certificate to trust
    #[arg(long, default_value = "")]
    pub(crate) cert: PathBuf,
}

impl Aim {
    pub(crate) fn length(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }
}
