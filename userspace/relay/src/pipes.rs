//! Pipes that bulk goes through without being copied, shared by the pairs of one thread.

use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// What a pipe takes. A user without `CAP_SYS_RESOURCE` gets less once he has many
/// (`fs.pipe-user-pages-soft`).
pub(crate) const PIPE_SIZE: usize = 512 * 1024;
/// Pipes of one thread that hold bytes or are about to; whoever comes later copies.
const PIPES_MAX: usize = 1024;
/// Empty pipes that are kept for the next transfer.
const SPARE_MAX: usize = 32;

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) out: OwnedFd,
    pub(crate) into: OwnedFd,
    pub(crate) filled: usize,
}

/// The pipes of one thread.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    spare: Vec<Pipe>,
    /// Pipes that were taken and not given back.
    taken: usize,
}

impl Pipes {
    /// An empty pipe; `None` when there are enough, or the system has none.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        if self.taken >= PIPES_MAX {
            return None;
        }
        let pipe = self.spare.pop().or_else(open)?;
        self.taken += 1;
        Some(pipe)
    }

    /// Takes a pipe back. One that still has bytes in it is closed, and they are lost.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        self.taken = self.taken.saturating_sub(1);
        if pipe.filled == 0 && self.spare.len() < SPARE_MAX {
            self.spare.push(pipe);
        }
    }
}

fn open() -> Option<Pipe> {
    let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    // A smaller pipe is as good, only slower.
    let _ = fcntl_setpipe_size(&into, PIPE_SIZE);
    Some(Pipe { out, into, filled: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_bounded_and_used_again() {
        let mut pipes = Pipes::default();
        let taken: Vec<_> = (0..PIPES_MAX.min(100)).map_while(|_| pipes.take()).collect();
        assert_eq!((taken.len(), pipes.taken), (100, 100));
        taken.into_iter().for_each(|pipe| pipes.give_back(pipe));
        assert_eq!((pipes.spare.len(), pipes.taken), (SPARE_MAX, 0));
        pipes.taken = PIPES_MAX;
        assert!(pipes.take().is_none());
    }

    #[test]
    fn a_pipe_with_bytes_in_it_serves_nobody_else() {
        let mut pipes = Pipes::default();
        let pipe = pipes.take().unwrap();
        pipes.give_back(Pipe { filled: 1, ..pipe });
        assert!(pipes.spare.is_empty());
    }
}
