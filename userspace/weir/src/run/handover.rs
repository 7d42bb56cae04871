//! What a process leaves to the one that succeeds it, as it goes from one to the other.
//!
//! ```text
//! predecessor                      successor, with the other end as standard input
//!   its sockets, `end`  ─────────►  reads the configuration, binds what is missing
//!                       ◄─────────  `planned`
//!   lets go of the kernel
//!   `go`                ─────────►  takes over what is pinned, serves
//!                       ◄─────────  `ready`
//!   drains, ends
//! ```
//! At any time the successor may say `failed` and why instead, or just end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use weir_l7::ListenerSockets;
use weir_net::{Handover, SOCKETS_MAX};

/// Names the predecessor to the successor, which would else read anybody's standard input.
pub(crate) const VARIABLE: &str = "WEIR_SUCCEEDS";
/// How long the predecessor waits for each word of the successor, and the other way around.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const PLANNED: &str = "planned";
pub(crate) const GO: &str = "go";
pub(crate) const READY: &str = "ready";
pub(crate) const FAILED: &str = "failed ";
const END: &str = "end";
const LISTENER: &str = "listener ";
const TCP: &str = "tcp ";
const UNIX: &str = "unix ";

/// The sockets of a process.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) listeners: Vec<ListenerSockets>,
    /// Of the admin side, by what the configuration says of them.
    pub(crate) tcp: Vec<(SocketAddr, OwnedFd)>,
    pub(crate) unix: Option<(PathBuf, OwnedFd)>,
}

impl Sockets {
    pub(crate) fn send(&self, to: &Handover) -> io::Result<()> {
        for ListenerSockets { configured, sockets } in &self.listeners {
            let text = format!("{LISTENER}{configured}");
            let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
            sockets.chunks(SOCKETS_MAX).try_for_each(|sockets| to.send(&text, sockets))?;
        }
        for (configured, socket) in &self.tcp {
            to.send(&format!("{TCP}{configured}"), &[socket.as_fd()])?;
        }
        if let Some((path, socket)) = &self.unix {
            to.send(&format!("{UNIX}{}", path.display()), &[socket.as_fd()])?;
        }
        to.send(END, &[])
    }

    fn receive(from: &Handover) -> Result<Self> {
        let mut received = Self::default();
        let mut listeners: Vec<(SocketAddr, Vec<std::net::TcpListener>)> = Vec::new();
        loop {
            let parcel = from.receive().context("receive sockets")?;
            let Some(mut parcel) = parcel else { bail!("the process before this one is gone") };
            if parcel.text == END {
                break;
            }
            let one = parcel.sockets.pop();
            if let Some(address) = parcel.text.strip_prefix(LISTENER) {
                let address = address.parse().context("receive sockets")?;
                let sockets = parcel.sockets.into_iter().chain(one).map(Into::into);
                match listeners.iter_mut().find(|(known, _)| *known == address) {
                    Some((_, known)) => known.extend(sockets),
                    None => listeners.push((address, sockets.collect())),
                }
            } else if let Some(address) = parcel.text.strip_prefix(TCP) {
                let address = address.parse().context("receive sockets")?;
                received.tcp.extend(one.map(|socket| (address, socket)));
            } else if let Some(path) = parcel.text.strip_prefix(UNIX) {
                received.unix = one.map(|socket| (path.into(), socket));
            }
            // What a later version sends is closed, which it still has open itself.
        }
        let listener =
            |(configured, sockets)| ListenerSockets { configured, sockets: Arc::new(sockets) };
        received.listeners = listeners.into_iter().map(listener).collect();
        Ok(received)
    }

    /// The socket of the admin side that was bound for this address.
    pub(crate) fn take_tcp(&mut self, configured: SocketAddr) -> Option<std::net::TcpListener> {
        let index = self.tcp.iter().position(|(known, _)| *known == configured)?;
        Some(self.tcp.swap_remove(index).1.into())
    }

    /// The admin socket of that path.
    pub(crate) fn take_unix(&mut self, path: &Path) -> Option<std::os::unix::net::UnixListener> {
        let (_, socket) = self.unix.take_if(|(known, _)| known == path)?;
        Some(socket.into())
    }
}

/// The process before this one, which serves until this one does.
#[derive(Debug)]
pub(crate) struct Predecessor {
    pub(crate) pid: u32,
    channel: Handover,
}

impl Predecessor {
    /// Who started this process to succeed it, if anybody did.
    pub(crate) fn find() -> Result<Option<Self>> {
        let Some(pid) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let pid = pid.to_str().and_then(|pid| pid.parse().ok());
        // Left over from a predecessor of whoever started this process.
        let Some(pid) = pid.filter(|&pid| is_parent(pid)) else { return Ok(None) };
        let channel = Handover::of_stdin().context("take over from the process before this one")?;
        channel.set_patience(PATIENCE).context("take over from the process before this one")?;
        Ok(Some(Self { pid, channel }))
    }

    pub(crate) fn sockets(&self) -> Result<Sockets> {
        Sockets::receive(&self.channel)
    }

    /// Nothing more can be refused but by the kernel; has the predecessor let go of it.
    pub(crate) fn planned(&self) -> Result<()> {
        self.channel.send(PLANNED, &[]).context("take over")?;
        match self.channel.receive().context("take over")? {
            Some(parcel) if parcel.text == GO => Ok(()),
            _ => bail!("the process before this one is gone"),
        }
    }

    pub(crate) fn ready(&self) -> Result<()> {
        self.channel.send(READY, &[]).context("take over")
    }

    pub(crate) fn failed(&self, error: &anyhow::Error) {
        // It may be the predecessor's end that is told.
        let _ = self.channel.send(&format!("{FAILED}{error:#}"), &[]);
    }
}

/// Whether that process has started this one, and lives.
pub(crate) fn is_parent(pid: u32) -> bool {
    std::os::unix::process::parent_id() == pid
}
