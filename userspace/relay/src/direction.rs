//! One direction of a pair: from its source to its sink, without ever waiting.
//!
//! Small messages are copied through a buffer of the thread, bulk is spliced through a pipe. What
//! `examples/measure.rs` told on loopback (the best of two rounds on a machine that others used too;
//! CPU of the relay's thread, copies through 64 KiB against a pipe of 512 KiB): 64 bytes to and fro
//! 7.1 and 7.3 µs, 16 KiB 8.1 and 8.5 µs, 48 KiB 12 and 9 µs, 128 KiB 32 and 19 µs; bulk 860 and 390
//! µs a MiB (540 with a buffer of 256 KiB; pipes of 64 KiB 530, of 1 MiB 385). So splicing costs
//! small messages nothing, but a pipe each; it is worth one from about 32 KiB.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustix::pipe::{SpliceFlags, splice};

use crate::pipes::{PIPE_SIZE, Pipe, Pipes};

/// What is read at once where bytes are copied. A read that fills it is taken for bulk.
pub(crate) const COPY_SIZE: usize = 32 * 1024;
/// A splice that brings less than this was not worth a pipe.
const BULK_MIN: usize = 16 * 1024;
/// Bytes of one direction after which the other pairs have their turn.
const TURN_BYTES_MAX: usize = 1024 * 1024;

// Not MORE: it holds the last segment back for up to 200 ms, and nobody knows which one is last.
const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// What all pairs of one thread use by turns.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) buffer: Box<[u8]>,
    pub(crate) pipes: Pipes,
}

impl Tools {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; COPY_SIZE].into(), pipes: Pipes::default() }
    }
}

/// From one socket to the other. At any time bytes are on their way in `held` or in `pipe`, not in
/// both, and the source is read only when there are none: so a pair's memory is bounded.
#[derive(Debug)]
pub(crate) struct Direction {
    held: Held,
    pipe: Option<Pipe>,
    /// The kernel may have bytes for us; it tells so once, until we have read them all.
    pub(crate) source_ready: bool,
    /// The end of the source is behind what it still has, so a short read is not the last one.
    pub(crate) source_closed: bool,
    /// The kernel may take bytes; it tells so once, until it has refused some.
    pub(crate) sink_ready: bool,
    bulk: bool,
    stage: Stage,
    /// Bytes given to the sink.
    pub(crate) moved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The source has ended; what is on its way is still to be sent.
    Ending,
    /// The sink was told of the end.
    Shut,
}

/// What has become of a direction for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It goes on when the kernel says so.
    Waits,
    /// There is more to move, and it is others' turn.
    Again,
    /// It has ended, and its sink was told.
    Shut,
}

/// A socket of the direction broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Source,
    Sink,
}

impl Direction {
    /// `held` goes first.
    pub(crate) fn new(held: Vec<u8>) -> Self {
        Self {
            held: Held { bytes: held, sent: 0 },
            pipe: None,
            source_ready: false,
            source_closed: false,
            sink_ready: true,
            bulk: false,
            stage: Stage::Open,
            moved: 0,
        }
    }

    /// Whether bytes were taken from the source that the sink has not got.
    pub(crate) fn is_loaded(&self) -> bool {
        !self.held.is_empty() || self.pipe.as_ref().is_some_and(|pipe| pipe.filled > 0)
    }

    /// Moves what can be moved now.
    pub(crate) fn turn(
        &mut self,
        source: &TcpStream,
        sink: &TcpStream,
        tools: &mut Tools,
    ) -> Result<Turn, Broken> {
        let mut budget = TURN_BYTES_MAX;
        while self.stage != Stage::Shut {
            if !self.flush(sink)? {
                return Ok(Turn::Waits);
            }
            if self.stage == Stage::Ending {
                // Where the sink is gone already, its own direction finds out.
                let _ = sink.shutdown(Shutdown::Write);
                self.stage = Stage::Shut;
            } else if !self.source_ready {
                self.let_go(tools);
                return Ok(Turn::Waits);
            } else if budget == 0 {
                return Ok(Turn::Again);
            } else {
                budget = budget.saturating_sub(self.take(source, sink, tools)?);
            }
        }
        self.let_go(tools);
        Ok(Turn::Shut)
    }

    /// Gives its pipe back.
    pub(crate) fn let_go(&mut self, tools: &mut Tools) {
        if let Some(pipe) = self.pipe.take() {
            tools.pipes.give_back(pipe);
        }
    }

    /// Sends what is on its way; whether nothing is any more.
    fn flush(&mut self, sink: &TcpStream) -> Result<bool, Broken> {
        while self.sink_ready && self.is_loaded() {
            let sent = match &mut self.pipe {
                Some(pipe) if pipe.filled > 0 => {
                    let sent = splice(&pipe.out, None, sink, None, pipe.filled, SPLICE);
                    sent.map_err(io::Error::from)
                        .inspect(|sent| pipe.filled = pipe.filled.saturating_sub(*sent))
                }
                _ => (&*sink).write(self.held.rest()).inspect(|sent| self.held.consume(*sent)),
            };
            self.note_sent(sent)?;
        }
        Ok(!self.is_loaded())
    }

    fn note_sent(&mut self, sent: io::Result<usize>) -> Result<(), Broken> {
        match sent {
            Ok(0) => return Err(Broken::Sink),
            Ok(sent) => self.moved += sent as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.sink_ready = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Broken::Sink),
        }
        Ok(())
    }

    /// Takes bytes from the source; how many.
    fn take(
        &mut self,
        source: &TcpStream,
        sink: &TcpStream,
        tools: &mut Tools,
    ) -> Result<usize, Broken> {
        if !self.bulk {
            self.let_go(tools);
        } else if self.pipe.is_none() {
            self.pipe = tools.pipes.take();
        }
        let Some(pipe) = &mut self.pipe else {
            return self.copy(source, sink, &mut tools.buffer);
        };
        // The pipe is empty, so the kernel refuses only for want of bytes in the source.
        let taken = splice(source, None, &pipe.into, None, PIPE_SIZE, SPLICE);
        pipe.filled = *taken.as_ref().unwrap_or(&0);
        let taken = self.note_taken(taken.map_err(io::Error::from))?;
        self.bulk = taken >= BULK_MIN || !self.source_ready;
        Ok(taken)
    }

    fn copy(
        &mut self,
        source: &TcpStream,
        sink: &TcpStream,
        buffer: &mut [u8],
    ) -> Result<usize, Broken> {
        let taken = (&*source).read(buffer);
        let taken = self.note_taken(taken)?;
        self.bulk = taken == buffer.len();
        if !self.bulk && !self.source_closed {
            // It had no more than that; the kernel tells of what comes later.
            self.source_ready = false;
        }
        let bytes = buffer.get(..taken).unwrap_or_default();
        if !bytes.is_empty() {
            let sent = (&*sink).write(bytes);
            self.held.put(bytes.get(*sent.as_ref().unwrap_or(&0)..).unwrap_or_default());
            self.note_sent(sent)?;
        }
        Ok(taken)
    }

    fn note_taken(&mut self, taken: io::Result<usize>) -> Result<usize, Broken> {
        match taken {
            Ok(0) => self.stage = Stage::Ending,
            Ok(taken) => return Ok(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.source_ready = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Broken::Source),
        }
        Ok(0)
    }
}

/// Bytes in memory of our own; takes memory only while there are some.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    sent: usize,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn consume(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            *self = Self { bytes: Vec::new(), sent: 0 };
        }
    }
}
