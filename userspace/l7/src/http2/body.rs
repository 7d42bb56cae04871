//! Bodies of HTTP/2 as those of HTTP/1.1, and back.

use std::io::Write;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};

use super::head::{Framing, append_trailers, trailers};
use crate::http1::body::Body;
use crate::http1::chunked::Piece;

/// What follows the last content of a body in chunks that has no trailers.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A body that did not pass in whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut;

/// What a peer sends, in the framing of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Inflow {
    stream: RecvStream,
    framing: Framing,
    /// Received and not yet read.
    held: Bytes,
    /// How it ended.
    end: Option<Result<(), Cut>>,
}

impl Inflow {
    /// `ends` is whether there is no body.
    pub(super) fn new(stream: RecvStream, ends: bool, framing: Framing) -> Self {
        Self { stream, framing, held: Bytes::new(), end: ends.then_some(Ok(())) }
    }

    /// Ready when there is something to read, or the end.
    pub(super) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.held.is_empty() && self.end.is_none() {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(bytes)) => {
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    self.held = self.framed(bytes);
                }
                Some(Err(_)) => self.end = Some(Err(Cut)),
                None => match ready!(self.stream.poll_trailers(context)) {
                    Ok(trailers) => {
                        self.end = Some(Ok(()));
                        if self.framing == Framing::Chunked {
                            let mut lines = b"0\r\n".to_vec();
                            trailers.iter().for_each(|map| append_trailers(map, &mut lines));
                            lines.extend_from_slice(b"\r\n");
                            self.held = lines.into();
                        }
                    }
                    Err(_) => self.end = Some(Err(Cut)),
                },
            }
        }
        Poll::Ready(())
    }

    /// Reads whatever has arrived; empty is the end.
    pub(super) fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Cut>> {
        ready!(self.poll_readable(context));
        match self.end {
            Some(Err(Cut)) if self.held.is_empty() => Poll::Ready(Err(Cut)),
            _ => Poll::Ready(Ok(std::mem::take(&mut self.held))),
        }
    }

    /// Reads into `space`; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<Result<usize, Cut>> {
        self.held = ready!(self.poll_take(context))?;
        Poll::Ready(Ok(read_from(&mut self.held, space)))
    }

    /// Reads on without keeping anything, up to so many bytes: many clients take an answer only when
    /// they have sent all they had to send. Ready when there is no more, or too much.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        while !self.is_over() && *left > 0 {
            match ready!(self.poll_take(context)) {
                Ok(bytes) if !bytes.is_empty() => *left = left.saturating_sub(bytes.len()),
                _ => break,
            }
        }
        Poll::Ready(())
    }

    /// Whether the peer has sent all that it will.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some() || self.stream.is_end_stream()
    }

    fn framed(&self, bytes: Bytes) -> Bytes {
        if self.framing != Framing::Chunked || bytes.is_empty() {
            return bytes;
        }
        let mut chunk = Vec::with_capacity(bytes.len() + 16);
        // Writing to a Vec cannot fail.
        let _ = write!(chunk, "{:x}\r\n", bytes.len());
        chunk.extend_from_slice(&bytes);
        chunk.extend_from_slice(b"\r\n");
        chunk.into()
    }
}

/// Reads what of `bytes` there is space for.
pub(super) fn read_from(bytes: &mut impl Buf, space: &mut [u8]) -> usize {
    let count = bytes.remaining().min(space.len());
    if let Some(space) = space.get_mut(..count) {
        bytes.copy_to_slice(space);
    }
    count
}

/// A body of HTTP/1.1 to the peer.
#[derive(Debug)]
pub(super) struct Outflow {
    stream: SendStream<Bytes>,
    body: Body,
    /// Bytes of content that come next.
    content: usize,
    trailers: Vec<u8>,
    done: bool,
    /// What the peer is told where the body breaks off.
    cut: Reason,
}

impl Outflow {
    /// `cut` is what the peer is told where the body breaks off.
    pub(super) fn new(stream: SendStream<Bytes>, body: Body, cut: Reason) -> Self {
        Self { stream, body, content: 0, trailers: Vec::new(), done: false, cut }
    }

    /// Sends what there is; a line of framing that is not complete is left. The peer is told of the end
    /// with the last frame of content where it is known by then.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        source: &mut impl Buf,
    ) -> Poll<Result<(), Cut>> {
        while !self.done {
            if self.content == 0 {
                let in_trailers = self.body.is_in_trailers();
                match self.body.next(source.chunk()) {
                    Ok(Piece::Data(count)) => self.content = count,
                    Ok(Piece::Framing(count)) => {
                        let line = source.chunk().get(..count).unwrap_or_default();
                        if in_trailers && count > 2 {
                            self.trailers.extend_from_slice(line);
                        }
                        source.advance(count);
                    }
                    Ok(Piece::End) => return Poll::Ready(self.end()),
                    Ok(Piece::Incomplete) => break,
                    Err(_) => return Poll::Ready(self.cut()),
                }
            } else {
                let room = ready!(room(&mut self.stream, context, self.content))?;
                let part = source.copy_to_bytes(room.min(self.content));
                self.content -= part.len();
                self.done = self.content == 0 && self.ends_with(source);
                self.stream.send_data(part, self.done).map_err(|_| Cut)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether nothing but `rest` follows the content that was just found, and it has no content; then
    /// it is used.
    fn ends_with(&self, rest: &mut impl Buf) -> bool {
        match &self.body {
            Body::Length(left) => *left == 0,
            Body::Chunked(_) if rest.chunk() == LAST_CHUNK => {
                rest.advance(LAST_CHUNK.len());
                true
            }
            Body::Chunked(_) | Body::UntilClose => false,
        }
    }

    /// Whether the body has passed.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the end of what is read is where this body may end.
    pub(super) fn ends_at_close(&self) -> bool {
        self.body.ends_at_close()
    }

    /// Tells the peer that this was all.
    pub(super) fn end(&mut self) -> Result<(), Cut> {
        self.done = true;
        let sent = if self.trailers.is_empty() {
            self.stream.send_data(Bytes::new(), true)
        } else {
            self.stream.send_trailers(trailers(&self.trailers))
        };
        sent.map_err(|_| Cut)
    }

    /// Tells the peer that this was not the whole.
    pub(super) fn cut(&mut self) -> Result<(), Cut> {
        self.done = true;
        self.stream.send_reset(self.cut);
        Err(Cut)
    }

    /// Whether the peer wants no more of it.
    pub(super) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(context).map(drop)
    }
}

/// How many of `wanted` bytes may be sent.
fn room(
    stream: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
    wanted: usize,
) -> Poll<Result<usize, Cut>> {
    stream.reserve_capacity(wanted);
    loop {
        let capacity = stream.capacity();
        if capacity > 0 {
            return Poll::Ready(Ok(capacity));
        }
        match ready!(stream.poll_capacity(context)) {
            Some(Ok(_)) => {}
            _ => return Poll::Ready(Err(Cut)),
        }
    }
}
