//! One stream of a client as a connection of HTTP/1.1: its request as bytes, and bytes as its answer.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request, StatusCode, request};

use super::body::{Cut, Inflow, Outflow, read_from};
use super::head::{self, Framing};
use super::server::OpenStream;
use crate::client::{LINGER_SIZE_MAX, LINGER_TIMEOUT};
use crate::http1::body::Body;
use crate::http1::response::ResponseHead;
use crate::http1::scan::HeadScan;
use crate::reactor::Reactor;
use crate::timers::Timer;
use crate::websocket;

/// Memory that copies of answers share.
const COPIES_SIZE: usize = 16 * 1024;

/// What a client sent, and what it gets.
#[derive(Debug)]
pub(super) struct ClientStream {
    head: Head,
    upload: Inflow,
    answer: Answer,
    open: OpenStream,
    linger: Option<Linger>,
}

/// The head of a request.
#[derive(Debug)]
enum Head {
    Received(request::Parts, Framing),
    /// This is left to be read.
    Reading(Bytes),
}

/// Memory that is used within one call and then by other streams, so that it stays in the cache.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A request's head.
    request: Vec<u8>,
    response: ResponseHead,
    /// Bytes of answers that wait to be sent are cut off from this.
    answers: BytesMut,
}

impl ClientStream {
    pub(super) fn new(
        (request, respond): (Request<RecvStream>, SendResponse<Bytes>),
        open: OpenStream,
    ) -> Self {
        let (request, body) = request.into_parts();
        let ends = body.is_end_stream();
        let framing = head::request_framing(&request, ends);
        let answer = Answer {
            to_head_request: request.method == Method::HEAD,
            is_raw: framing == Framing::Raw,
            state: State::Head(respond),
        };
        let head = Head::Received(request, framing);
        Self { head, upload: Inflow::new(body, ends, framing), answer, open, linger: None }
    }

    /// Ready when there is something to read, or the end.
    pub(super) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &self.head {
            Head::Reading(rest) if rest.is_empty() => self.upload.poll_readable(context),
            _ => Poll::Ready(()),
        }
    }

    /// Reads into `space`: the head, then the body; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
        reactor: &Reactor,
        with: &mut Scratch,
    ) -> Poll<Result<usize, Cut>> {
        match &mut self.head {
            Head::Received(request, framing) => {
                let text = &mut with.request;
                text.clear();
                head::append_request(request, *framing, || websocket::key(reactor.random()), text);
                let mut text = &text[..];
                let count = read_from(&mut text, space);
                self.head = Head::Reading(Bytes::copy_from_slice(text));
                Poll::Ready(Ok(count))
            }
            Head::Reading(rest) if !rest.is_empty() => Poll::Ready(Ok(read_from(rest, space))),
            Head::Reading(_) => {
                let read = ready!(self.upload.poll_read(context, space));
                self.open.cancelled |= read.is_err();
                Poll::Ready(read)
            }
        }
    }

    /// Writes what of `head` and then `body` the client takes. A head of HTTP/1.1 comes in one piece.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        (head, body): (&[u8], &[u8]),
        with: &mut Scratch,
    ) -> Poll<Result<usize, Cut>> {
        let mut source = Written { head, body, copies: &mut with.answers };
        let whole = source.remaining();
        match self.answer.poll_write(context, &mut source, &mut with.response) {
            Poll::Ready(Err(Cut)) => {
                self.open.cancelled = true;
                Poll::Ready(Err(Cut))
            }
            Poll::Pending if source.remaining() == whole => Poll::Pending,
            _ => Poll::Ready(Ok(whole - source.remaining())),
        }
    }

    /// Whether the client has all of its answer.
    pub(super) fn is_answered(&self) -> bool {
        match &self.answer.state {
            State::Head(_) => false,
            State::Body(body) | State::Tunnel(body) => body.is_done(),
            State::Answered => true,
        }
    }

    /// Nothing more is written: the end of a tunnel.
    pub(super) fn shutdown(&mut self) {
        if let State::Tunnel(flow) = &mut self.answer.state
            && !flow.is_done()
        {
            let _ = flow.end();
        }
    }

    /// Tells the client that it does not get the whole answer.
    pub(super) fn reset(&mut self) {
        match &mut self.answer.state {
            State::Head(respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            State::Body(flow) | State::Tunnel(flow) if !flow.is_done() => drop(flow.cut()),
            State::Body(_) | State::Tunnel(_) | State::Answered => {}
        }
    }

    /// Ready when the client wants no answer any more.
    pub(super) fn poll_cancelled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(match &mut self.answer.state {
            State::Head(respond) => respond.poll_reset(context).map(drop),
            State::Body(flow) | State::Tunnel(flow) => flow.poll_reset(context),
            State::Answered => Poll::Pending,
        });
        self.open.cancelled = true;
        Poll::Ready(())
    }

    /// Ready when the client has sent the rest of its request, or had the time to.
    pub(super) fn poll_rest(&mut self, context: &mut Context<'_>, reactor: &Reactor) -> Poll<()> {
        if self.upload.is_over() {
            return Poll::Ready(());
        }
        let linger = self.linger.get_or_insert_with(|| {
            let timer = reactor.timers.timer();
            timer.arm(LINGER_TIMEOUT);
            Linger { timer, left: LINGER_SIZE_MAX }
        });
        linger.timer.register(context);
        if linger.timer.fired() {
            return Poll::Ready(());
        }
        self.upload.poll_discard(context, &mut linger.left)
    }
}

/// What an exchange writes. Copies of it share their memory: many answers are small.
struct Written<'a> {
    head: &'a [u8],
    body: &'a [u8],
    copies: &'a mut BytesMut,
}

impl Buf for Written<'_> {
    fn remaining(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.head.is_empty() { self.body } else { self.head }
    }

    fn advance(&mut self, count: usize) {
        let of_head = count.min(self.head.len());
        self.head.advance(of_head);
        self.body.advance(count - of_head);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        if self.copies.capacity() < count {
            self.copies.reserve(count.max(COPIES_SIZE));
        }
        let of_head = count.min(self.head.len());
        let of_body = count - of_head;
        self.copies.extend_from_slice(self.head.get(..of_head).unwrap_or_default());
        self.copies.extend_from_slice(self.body.get(..of_body).unwrap_or_default());
        self.advance(count);
        self.copies.split().freeze()
    }
}

/// How long, and for how many bytes, a client is listened to that has its answer.
#[derive(Debug)]
struct Linger {
    timer: Timer,
    left: usize,
}

/// The answer on its way to the client.
#[derive(Debug)]
struct Answer {
    to_head_request: bool,
    /// The request asks for a tunnel.
    is_raw: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Head(SendResponse<Bytes>),
    Body(Outflow),
    Tunnel(Outflow),
    /// It had no body.
    Answered,
}

impl Answer {
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        source: &mut impl Buf,
        response: &mut ResponseHead,
    ) -> Poll<Result<(), Cut>> {
        while source.has_remaining() {
            match &mut self.state {
                State::Head(_) => self.write_head(source, response)?,
                State::Body(flow) | State::Tunnel(flow) => {
                    let before = source.remaining();
                    ready!(flow.poll_write(context, source))?;
                    if source.remaining() == before {
                        return Poll::Ready(Err(Cut));
                    }
                }
                State::Answered => return Poll::Ready(Err(Cut)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the head that `source` begins with. It is our own writing, so that what breaks the protocol
    /// is a cut and no answer.
    fn write_head(
        &mut self,
        source: &mut impl Buf,
        response: &mut ResponseHead,
    ) -> Result<(), Cut> {
        let State::Head(respond) = &mut self.state else { return Err(Cut) };
        let length = HeadScan::default().end(source.chunk()).map_err(|_| Cut)?.ok_or(Cut)?;
        let text = source.copy_to_bytes(length);
        response.parse(&text).map_err(|_| Cut)?;
        let mut translated = head::response(response, &text).map_err(|_| Cut)?;
        if response.status == 101 {
            if !self.is_raw {
                return Err(Cut);
            }
            *translated.status_mut() = StatusCode::OK;
            translated.headers_mut().remove("sec-websocket-accept");
            let stream = respond.send_response(translated, false).map_err(|_| Cut)?;
            let flow = Outflow::new(stream, Body::UntilClose, Reason::INTERNAL_ERROR);
            self.state = State::Tunnel(flow);
        } else if response.is_interim() {
            let _ = respond.send_informational(translated);
        } else {
            let body = response.body(&text, self.to_head_request).map_err(|_| Cut)?;
            let is_empty = matches!(body, Body::Length(0));
            let stream = respond.send_response(translated, is_empty).map_err(|_| Cut)?;
            self.state = if is_empty {
                State::Answered
            } else {
                State::Body(Outflow::new(stream, body, Reason::INTERNAL_ERROR))
            };
        }
        Ok(())
    }
}
