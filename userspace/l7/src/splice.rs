//! Large bodies from socket to socket through a pipe of the kernel's, without being copied.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;

use crate::socket::{Moved, Socket};

/// From so many bytes on a pipe is worth its calls: measured, 16 KiB are not, and 48 are.
pub(crate) const SPLICE_MIN: u64 = 32 * 1024;
/// Bytes that a pipe holds: half of that costs a third more calls, twice as much saves nothing.
const PIPE_SIZE: usize = 512 * 1024;
/// Unused pipes that a reactor keeps.
const PIPES_KEPT_MAX: usize = 32;

thread_local! {
    /// The unused pipes of this reactor; all of them are empty.
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe of one transfer.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// One that was used before, or a new one; `None` where there are none to be had.
    pub(crate) fn lease() -> Option<Self> {
        PIPES.with_borrow_mut(Vec::pop).or_else(|| {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            // Smaller where the limit of pages for pipes is reached: then it takes more calls.
            let _ = fcntl_setpipe_size(&write, PIPE_SIZE);
            Some(Self { read, write })
        })
    }

    /// Keeps it for the next transfer. It must be empty.
    pub(crate) fn give_back(self) {
        PIPES.with_borrow_mut(|pipes| {
            if pipes.len() < PIPES_KEPT_MAX {
                pipes.push(self);
            }
        });
    }

    /// Moves up to so many bytes from a socket into the pipe; 0 is the end of the socket's stream.
    pub(crate) fn poll_fill(
        &self,
        context: &mut Context<'_>,
        source: &Socket,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(PIPE_SIZE);
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        source.poll_io(context, Interest::READABLE, |socket| {
            let count = splice(socket, None, &self.write, None, most, flags)?;
            Ok(Moved { count, is_all: false })
        })
    }

    /// Moves up to `held` bytes from the pipe to a socket; `more` is whether others follow.
    pub(crate) fn poll_drain(
        &self,
        context: &mut Context<'_>,
        sink: &Socket,
        held: usize,
        more: bool,
    ) -> Poll<io::Result<usize>> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let flags = if more { flags | SpliceFlags::MORE } else { flags };
        sink.poll_io(context, Interest::WRITABLE, |socket| {
            let count = splice(&self.read, None, socket, None, held, flags)?;
            Ok(Moved { count, is_all: false })
        })
    }
}
