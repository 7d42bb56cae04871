//! The body of a client's request: where it is, and how much of it is gathered before it goes on.

use std::task::{Context, Poll, Waker};

use crate::buffer::{LARGE, SMALL, TINY};
use crate::client::Client;
use crate::exchange::Failure;
use crate::http1::body::Body;
use crate::http1::chunked::{Chunked, Malformed, Piece};
use crate::http1::request::BodyLength;
use crate::io::{IoError, Wait, read};
use crate::refusal::Refusal;
use crate::snapshot::Service;
use crate::splice::SPLICE_MIN;

/// Where the body of the current request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyPlace {
    /// All of it, so many bytes, behind the head in the input.
    Whole(usize),
    /// Still on its way. The head is gone from the input.
    Streaming,
}

impl Client {
    /// Finds the body of the request whose head was read.
    pub(crate) fn find_body(&mut self) -> Result<(), Refusal> {
        // Until it is found: an answer of ours then closes the connection.
        self.body = BodyPlace::Streaming;
        self.body = self.locate_body(&mut Chunks::default())?;
        let whole = match self.request.body {
            BodyLength::Bytes(size) => usize::try_from(size).unwrap_or(usize::MAX),
            BodyLength::None | BodyLength::Chunked => 0,
        };
        let whole = whole.saturating_add(self.request.length);
        // What may be sent again is kept; what may not goes on without being copied, where it can.
        let is_spliced = whole as u64 >= SPLICE_MIN + SMALL as u64
            && !self.request.is_idempotent
            && self.stream.is_plain();
        self.first_read = match whole {
            _ if is_spliced => TINY,
            whole if (SMALL + 1..=LARGE).contains(&whole) => LARGE,
            _ => SMALL,
        };
        // Also what is small, where little room was given because the last request was spliced.
        let is_kept = !is_spliced && whole <= LARGE;
        if self.body == BodyPlace::Streaming && is_kept && self.read_ahead(whole) {
            self.body = self.locate_body(&mut Chunks::default())?;
        }
        Ok(())
    }

    /// Reads what has arrived of `whole` bytes, head and body, without waiting: a request that is there in
    /// whole goes on in one piece. Whether there was anything.
    fn read_ahead(&mut self, whole: usize) -> bool {
        // A buffer with room has taken all there was.
        if !self.input.is_full() {
            return false;
        }
        self.input.grow(if whole <= SMALL { SMALL } else { LARGE });
        let mut context = Context::from_waker(Waker::noop());
        let before = self.input.data().len();
        while self.input.data().len() < whole {
            match self.stream.poll_read(&mut context, self.input.space()) {
                Poll::Ready(Ok(count)) if count > 0 => self.input.filled(count),
                _ => break,
            }
        }
        self.input.data().len() > before
    }

    /// Lets go of a large body that was sent and will not be sent again, so that few buffers serve many
    /// clients while these wait for answers.
    pub(crate) fn forget_body(&mut self) {
        if let BodyPlace::Whole(size) = self.body
            && size > SMALL
        {
            self.input.cut_out(self.request.length, size);
            self.body = BodyPlace::Whole(0);
        }
    }

    /// Finds out whether the whole body is at hand, and refuses one that is too large; `chunks` is how far it
    /// was looked at before.
    fn locate_body(&self, chunks: &mut Chunks) -> Result<BodyPlace, Refusal> {
        let behind = self.input.data().get(self.request.length..).unwrap_or_default();
        let size_max = self.serving.policy.limits.body_size.unwrap_or(u64::MAX);
        Ok(match self.request.body {
            BodyLength::None => BodyPlace::Whole(0),
            BodyLength::Bytes(size) if size > size_max => return Err(Refusal::BodyTooLarge),
            BodyLength::Bytes(size) => match usize::try_from(size) {
                Ok(size) if size <= behind.len() => BodyPlace::Whole(size),
                _ => BodyPlace::Streaming,
            },
            BodyLength::Chunked => match chunks.look(behind, size_max)? {
                Some(size) => BodyPlace::Whole(size),
                None => BodyPlace::Streaming,
            },
        })
    }

    /// How the body of the current request is delimited, before any of it was read.
    pub(crate) fn request_body(&self) -> Body {
        match self.request.body {
            BodyLength::None => Body::EMPTY,
            BodyLength::Bytes(size) => Body::Length(size),
            BodyLength::Chunked => Body::Chunked(Chunked::default()),
        }
    }

    /// Waits for the whole body where the service wants that and it is not too large; a client that
    /// waits to be told to go on is not kept waiting.
    pub(crate) async fn gather(&mut self, service: &Service) -> Result<(), Failure> {
        let Some(max) = service.buffer_request else { return Ok(()) };
        let fits = match self.request.body {
            BodyLength::Bytes(size) => size <= max,
            BodyLength::Chunked => true,
            BodyLength::None => false,
        };
        let max = usize::try_from(max).unwrap_or(usize::MAX).saturating_add(self.request.length);
        let mut chunks = Chunks::default();
        while self.body == BodyPlace::Streaming && fits && !self.request.expects_continue {
            let held = self.input.data().len();
            if held >= max {
                return Ok(());
            }
            if held == self.input.capacity() {
                self.input.grow((held * 2).min(max).max(held + 1));
            }
            let wait = Wait::AtMost(self.serving.policy.timeouts.body);
            match read(&self.stream, self.input.space(), &self.timer, wait).await {
                Ok(0) => return Err(Failure::Cut),
                Ok(count) => self.input.filled(count),
                Err(IoError::TimedOut) => return Err(Refusal::BodyTimeout.into()),
                Err(_) => return Err(Failure::Cut),
            }
            self.body = self.locate_body(&mut chunks)?;
        }
        Ok(())
    }
}

/// How far a chunked body was looked at that comes piece by piece: no byte is looked at twice.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    body: Chunked,
    used: usize,
    content: u64,
}

impl Chunks {
    /// The length of the body that `bytes` begin with, of which there were fewer before; `None` where there
    /// is more to come.
    pub(crate) fn look(&mut self, bytes: &[u8], size_max: u64) -> Result<Option<usize>, Refusal> {
        loop {
            match self.body.next(bytes.get(self.used..).unwrap_or_default()) {
                Ok(Piece::Data(count)) => {
                    self.used += count;
                    self.content += count as u64;
                    if self.content > size_max {
                        return Err(Refusal::BodyTooLarge);
                    }
                }
                Ok(Piece::Framing(count)) => self.used += count,
                Ok(Piece::End) => return Ok(Some(self.used)),
                Ok(Piece::Incomplete) => return Ok(None),
                Err(Malformed(how)) => return Err(Refusal::BadRequest(how)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_looked_at_once_however_it_comes() {
        let bytes = b"5;a=b\r\nhello\r\nA\r\n, the rest\r\n0\r\nX: y\r\n\r\nGET /next";
        let end = bytes.len() - b"GET /next".len();
        for step in 1..=bytes.len() {
            let (mut chunks, mut before) = (Chunks::default(), 0);
            let mut there = (0..=bytes.len()).step_by(step).chain([bytes.len()]);
            let found = there.find_map(|there| {
                let found = chunks.look(&bytes[..there], 15).unwrap();
                assert!(chunks.used >= before);
                before = chunks.used;
                found
            });
            assert_eq!(found, Some(end), "in steps of {step}");
            assert_eq!(Chunks::default().look(bytes, 14), Err(Refusal::BodyTooLarge));
        }
    }
}
