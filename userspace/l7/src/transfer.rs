//! Bytes of a body from one side to the other, without being gathered.

use std::io::Write;
use std::time::Duration;

use crate::buffer::{Buffer, LARGE, SMALL};
use crate::compress::Encoder;
use crate::forwarded::Delivery;
use crate::http1::body::Body;
use crate::http1::chunked::{Malformed, Piece};
use crate::io::{IoError, Wait, fill, wait_for, write};
use crate::low_water::LowWater;
use crate::splice::{Pipe, SPLICE_MIN};
use crate::stream::Stream;
use crate::timers::Timer;

const COMPRESSION: TransferError = TransferError::Malformed("the content cannot be compressed");

/// One body on its way.
pub(crate) struct Transfer<'a> {
    pub(crate) body: Body,
    pub(crate) delivery: Delivery,
    pub(crate) source: &'a Stream,
    /// What was read from the source; may hold the beginning of the body.
    pub(crate) buffer: &'a mut Buffer,
    pub(crate) sink: &'a Stream,
    /// What goes before the body; still there if nothing could be sent.
    pub(crate) head: &'a mut Vec<u8>,
    pub(crate) timer: &'a Timer,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    /// Bytes of content that may pass.
    pub(crate) size_max: Option<u64>,
    /// Compresses the content, where the delivery says so.
    pub(crate) encoder: Option<Box<Encoder>>,
}

/// Why a body did not arrive in whole, and on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferError {
    Source(IoError),
    Malformed(&'static str),
    TooLarge,
    Sink(IoError),
}

/// What of the buffer goes on next.
struct Portion {
    /// Bytes at the start of the buffer that go on as they are.
    verbatim: usize,
    /// Bytes at the start of the buffer that are done with.
    used: usize,
    ended: bool,
}

impl Transfer<'_> {
    /// Sends the head and the whole body. The buffer holds what came after it.
    pub(crate) async fn run(&mut self) -> Result<(), TransferError> {
        let ended = self.pass_portion().await?;
        // Most bodies are there in whole: what waits for the others is not made room for here.
        if ended { Ok(()) } else { Box::pin(self.rest()).await }
    }

    /// What is not in the buffer yet.
    async fn rest(&mut self) -> Result<(), TransferError> {
        let mut low_water = LowWater::new(self.source, self.sink);
        while !self.splice(&mut low_water).await? {
            if self.read(&mut low_water).await? == 0 {
                return self.end_at_close().await;
            }
            if self.pass_portion().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends what is in the buffer; whether that was the end.
    async fn pass_portion(&mut self) -> Result<bool, TransferError> {
        let portion = self.portion()?;
        self.send(&portion).await?;
        Ok(portion.ended)
    }

    fn portion(&mut self) -> Result<Portion, TransferError> {
        let (mut used, mut content) = (0, 0u64);
        let data = self.buffer.data();
        let ended = loop {
            let rest = data.get(used..).unwrap_or_default();
            let count = match self.body.next(rest) {
                Ok(Piece::Data(count)) => {
                    content += count as u64;
                    let piece = rest.get(..count).unwrap_or_default();
                    match &mut self.encoder {
                        None => append_content(piece, self.delivery, self.head),
                        Some(encoder) => encoder.write(piece).map_err(|_| COMPRESSION)?,
                    }
                    count
                }
                Ok(Piece::Framing(count)) => count,
                Ok(Piece::End) => break true,
                Ok(Piece::Incomplete) => break false,
                Err(Malformed(how)) => return Err(TransferError::Malformed(how)),
            };
            used += count;
        };
        if let Some(left) = &mut self.size_max {
            *left = left.checked_sub(content).ok_or(TransferError::TooLarge)?;
        }
        if let Some(encoder) = self.encoder.as_mut().filter(|_| content > 0 && !ended) {
            // The client can read what has come so far, whenever the rest comes.
            encoder.flush().map_err(|_| COMPRESSION)?;
            append_content(&encoder.take(), self.delivery, self.head);
        }
        if ended {
            self.append_end()?;
        }
        let verbatim = if self.delivery == Delivery::Verbatim { used } else { 0 };
        Ok(Portion { verbatim, used, ended })
    }

    /// What follows the last content, where it is ours to write.
    fn append_end(&mut self) -> Result<(), TransferError> {
        if let Some(encoder) = self.encoder.take() {
            let rest = encoder.finish().map_err(|_| COMPRESSION)?;
            append_content(&rest, self.delivery, self.head);
        }
        if self.delivery.is_chunked() {
            self.head.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(())
    }

    async fn send(&mut self, portion: &Portion) -> Result<(), TransferError> {
        let wait = Wait::AtMost(self.write_timeout);
        // In one piece, if there is a body to be in front of.
        let in_front = portion.verbatim > 0 && self.buffer.put_before(self.head);
        let in_front = if in_front { self.head.len() } else { 0 };
        let head = self.head.get(in_front..).unwrap_or_default();
        let body = self.buffer.data().get(..in_front + portion.verbatim).unwrap_or_default();
        let written = write(self.sink, head, body, self.timer, wait).await;
        self.buffer.consume(in_front);
        written.map_err(TransferError::Sink)?;
        self.head.clear();
        self.buffer.consume(portion.used);
        // The memory is leased again for what comes next: the same for all that are large, so that it
        // stays in the cache.
        self.buffer.release();
        Ok(())
    }

    /// The rest of a large body, where nothing of it needs to be looked at; whether that was so.
    async fn splice(&mut self, low_water: &mut LowWater<'_>) -> Result<bool, TransferError> {
        let (Stream::Plain(source), Stream::Plain(sink)) = (self.source, self.sink) else {
            return Ok(false);
        };
        let Body::Length(left) = &mut self.body else { return Ok(false) };
        let is_plain = self.delivery == Delivery::Verbatim && self.buffer.is_empty();
        if *left < SPLICE_MIN || !is_plain {
            return Ok(false);
        }
        let Some(pipe) = Pipe::lease() else { return Ok(false) };
        let writing = Wait::AtMost(self.write_timeout);
        while *left > 0 {
            let reading = low_water.ask(*left, self.read_timeout);
            let filled =
                wait_for(self.timer, reading, |context| pipe.poll_fill(context, source, *left));
            let mut held = match filled.await {
                Err(IoError::TimedOut) if low_water.give_up() => continue,
                filled => filled.map_err(TransferError::Source)?,
            };
            if held == 0 {
                return Err(TransferError::Source(IoError::Closed));
            }
            *left -= held as u64;
            while held > 0 {
                let drained = wait_for(self.timer, writing, |context| {
                    pipe.poll_drain(context, sink, held, *left > 0)
                });
                match drained.await.map_err(TransferError::Sink)? {
                    0 => return Err(TransferError::Sink(IoError::Closed)),
                    count => held = held.saturating_sub(count),
                }
            }
        }
        pipe.give_back();
        Ok(true)
    }

    async fn read(&mut self, low_water: &mut LowWater<'_>) -> Result<usize, TransferError> {
        let count = loop {
            let left = if let Body::Length(left) = self.body { left } else { 0 };
            let wait = low_water.ask(left, self.read_timeout);
            match fill(self.source, self.buffer, self.timer, wait).await {
                Err(IoError::TimedOut) if low_water.give_up() => {}
                filled => break filled.map_err(TransferError::Source)?,
            }
        };
        // A stream of HTTP/2 takes less than that at a time, and they are many; what is encrypted on its way is
        // quicker while the cache holds it.
        let takes_large = matches!(self.sink, Stream::Plain(_));
        if self.buffer.is_full() && self.body.is_large(SMALL) && takes_large {
            // More is waiting than fits: from here on, fewer and larger reads.
            self.buffer.prefer(LARGE);
        }
        Ok(count)
    }

    /// The source has nothing more to say: the end of this body, or its middle.
    async fn end_at_close(&mut self) -> Result<(), TransferError> {
        if !self.body.ends_at_close() {
            return Err(TransferError::Source(IoError::Closed));
        }
        self.append_end()?;
        self.send(&Portion { verbatim: 0, used: 0, ended: true }).await
    }
}

fn append_content(content: &[u8], delivery: Delivery, out: &mut Vec<u8>) {
    match delivery {
        Delivery::Verbatim => {}
        Delivery::Unchunk | Delivery::EncodePlain => out.extend_from_slice(content),
        // An empty chunk would be the end.
        Delivery::Chunk | Delivery::EncodeChunked if content.is_empty() => {}
        Delivery::Chunk | Delivery::EncodeChunked => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{:x}\r\n", content.len());
            out.extend_from_slice(content);
            out.extend_from_slice(b"\r\n");
        }
    }
}
