//! Bodies of HTTP/2 into a pipe, and out of it.

use std::io::Write;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};

use super::head::{Framing, append_trailers, trailers};
use crate::http1::body::Body;
use crate::http1::chunked::Piece;
use crate::pipe::PipeEnd;

/// A body that did not pass in whole; whoever held it has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut;

/// What a peer sends, into the pipe in the framing of HTTP/1.1.
pub(super) struct Inflow {
    stream: RecvStream,
    framing: Framing,
    done: bool,
    scratch: Vec<u8>,
}

impl Inflow {
    pub(super) fn new(stream: RecvStream, framing: Framing) -> Self {
        Self { stream, framing, done: false, scratch: Vec::new() }
    }

    /// Ready when the body has passed.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        pipe: &PipeEnd,
    ) -> Poll<Result<(), Cut>> {
        while !self.done {
            // Nobody reads any more: an answer came before the end of the request.
            if ready!(pipe.poll_room(context)).is_err() {
                self.done = true;
                break;
            }
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(bytes)) => {
                    self.append(&bytes, pipe);
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                }
                Some(Err(_)) => return self.cut(pipe),
                None => {
                    let Ok(trailers) = ready!(self.stream.poll_trailers(context)) else {
                        return self.cut(pipe);
                    };
                    self.scratch.clear();
                    if self.framing == Framing::Chunked {
                        self.scratch.extend_from_slice(b"0\r\n");
                        trailers.iter().for_each(|map| append_trailers(map, &mut self.scratch));
                        self.scratch.extend_from_slice(b"\r\n");
                        pipe.push(&[&self.scratch]);
                    }
                    pipe.shutdown();
                    self.done = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads on without keeping anything, up to so many bytes: many clients take an answer only when
    /// they have sent all they had to send. Ready when there is no more, or too much.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        while !self.stream.is_end_stream() && *left > 0 {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(bytes)) => {
                    *left = left.saturating_sub(bytes.len());
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                }
                Some(Err(_)) | None => break,
            }
        }
        Poll::Ready(())
    }

    fn append(&mut self, bytes: &[u8], pipe: &PipeEnd) {
        if bytes.is_empty() {
            return;
        }
        if self.framing != Framing::Chunked {
            return pipe.push(&[bytes]);
        }
        self.scratch.clear();
        // Writing to a Vec cannot fail.
        let _ = write!(self.scratch, "{:x}\r\n", bytes.len());
        pipe.push(&[&self.scratch, bytes, b"\r\n"]);
    }

    fn cut(&mut self, pipe: &PipeEnd) -> Poll<Result<(), Cut>> {
        self.done = true;
        pipe.reset();
        Poll::Ready(Err(Cut))
    }
}

/// A body of HTTP/1.1 out of the pipe, to the peer.
pub(super) struct Outflow {
    stream: SendStream<Bytes>,
    body: Body,
    /// Taken out of the pipe and not yet looked at.
    taken: Bytes,
    trailers: Vec<u8>,
    state: State,
    /// Pieces that the peer has taken.
    passed: u64,
    /// What the peer is told where the body breaks off.
    cut: Reason,
}

enum State {
    /// This is to be sent next; then, if that is known, comes the end.
    Sending(Bytes, bool),
    /// The next piece is to be found.
    Reading,
    Done,
}

impl Outflow {
    /// `taken` is what was read behind the head; `cut` is what the peer is told where the body breaks off.
    pub(super) fn new(stream: SendStream<Bytes>, body: Body, taken: Bytes, cut: Reason) -> Self {
        Self { stream, body, taken, trailers: Vec::new(), state: State::Reading, passed: 0, cut }
    }

    /// Ready when the body has passed.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        pipe: &PipeEnd,
    ) -> Poll<Result<(), Cut>> {
        loop {
            match &mut self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Sending(bytes, ends) => {
                    let ends = *ends;
                    let room = match ready!(room(&mut self.stream, context, bytes.len())) {
                        Ok(room) => room,
                        Err(Cut) => return Poll::Ready(Err(Cut)),
                    };
                    let part = bytes.split_to(room.min(bytes.len()));
                    let all = bytes.is_empty();
                    self.passed += 1;
                    if self.stream.send_data(part, all && ends).is_err() {
                        return Poll::Ready(Err(Cut));
                    }
                    match (all, ends) {
                        (true, true) => self.state = State::Done,
                        (true, false) => self.state = State::Reading,
                        (false, _) => {}
                    }
                }
                State::Reading => match self.next_piece() {
                    Ok(Found::Data(bytes)) => {
                        let ends = self.ends_here();
                        self.state = State::Sending(bytes, ends);
                    }
                    Ok(Found::End) => return Poll::Ready(self.end()),
                    Ok(Found::Nothing) => match ready!(pipe.poll_take(context)) {
                        Ok(bytes) if bytes.is_empty() && self.body.ends_at_close() => {
                            return Poll::Ready(self.end());
                        }
                        Ok(bytes) if !bytes.is_empty() => self.taken = join(&self.taken, bytes),
                        _ => return Poll::Ready(self.cut()),
                    },
                    Err(Cut) => return Poll::Ready(self.cut()),
                },
            }
        }
    }

    /// Content up to the next framing; framing is passed over.
    fn next_piece(&mut self) -> Result<Found, Cut> {
        loop {
            let in_trailers = self.body.is_in_trailers();
            match self.body.next(&self.taken).map_err(|_| Cut)? {
                Piece::Data(count) => return Ok(Found::Data(self.taken.split_to(count))),
                Piece::Framing(count) => {
                    let line = self.taken.split_to(count);
                    if in_trailers && count > 2 {
                        self.trailers.extend_from_slice(&line);
                    }
                }
                Piece::End => return Ok(Found::End),
                Piece::Incomplete => return Ok(Found::Nothing),
            }
        }
    }

    /// Whether nothing follows the content that was just found, as far as is known: the last frame of
    /// content then says so itself.
    fn ends_here(&mut self) -> bool {
        self.taken.is_empty() && matches!(self.body, Body::Length(0))
            || matches!(self.body, Body::Chunked(_)) && self.taken.as_ref() == b"\r\n0\r\n\r\n"
    }

    fn end(&mut self) -> Result<(), Cut> {
        self.state = State::Done;
        let sent = if self.trailers.is_empty() {
            self.stream.send_data(Bytes::new(), true)
        } else {
            self.stream.send_trailers(trailers(&self.trailers))
        };
        sent.map_err(|_| Cut)
    }

    fn cut(&mut self) -> Result<(), Cut> {
        self.state = State::Done;
        self.stream.send_reset(self.cut);
        Err(Cut)
    }

    /// How many pieces the peer has taken, while it is waited for to take another.
    pub(super) fn stalled_after(&self) -> Option<u64> {
        matches!(self.state, State::Sending(..)).then_some(self.passed)
    }

    /// Gives up: the peer is told that this is not the whole.
    pub(super) fn cancel(&mut self) {
        self.state = State::Done;
        self.stream.send_reset(Reason::CANCEL);
    }

    /// Whether the peer wants no more of it.
    pub(super) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(context).map(drop)
    }
}

enum Found {
    Data(Bytes),
    End,
    /// More is to be read first.
    Nothing,
}

/// How many of `wanted` bytes may be sent.
fn room(
    stream: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
    wanted: usize,
) -> Poll<Result<usize, Cut>> {
    stream.reserve_capacity(wanted);
    loop {
        if stream.capacity() > 0 {
            return Poll::Ready(Ok(stream.capacity()));
        }
        match ready!(stream.poll_capacity(context)) {
            Some(Ok(_)) => {}
            _ => return Poll::Ready(Err(Cut)),
        }
    }
}

fn join(rest: &Bytes, more: Bytes) -> Bytes {
    if rest.is_empty() {
        return more;
    }
    let mut joined = rest.clone().chain(more);
    let length = joined.remaining();
    joined.copy_to_bytes(length)
}
