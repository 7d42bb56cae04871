//! One stream of a client: its request into a pipe, an exchange at the other end, the answer back.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, StatusCode};

use super::body::{Cut, Inflow, Outflow};
use super::head::{self, Framing};
use crate::client;
use crate::connection::Arrived;
use crate::forwarded::ClientSide;
use crate::http1::body::Body;
use crate::http1::response::ResponseHead;
use crate::http1::scan::HeadScan;
use crate::io::within;
use crate::listener::Listener;
use crate::pipe::{PipeEnd, pipe};
use crate::reactor::Reactor;
use crate::stream::Stream;
use crate::timers::Timer;
use crate::websocket;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its answer has passed.
    Answered,
    /// The client did not wait for it.
    Cancelled,
    /// The backend or we broke off.
    Cut,
}

/// Serves a stream until its answer has passed, or nobody wants it any more.
pub(super) async fn serve(
    reactor: Rc<Reactor>,
    listener: Rc<Listener>,
    side: ClientSide,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> End {
    let (ours, theirs) = pipe();
    let (request, body) = request.into_parts();
    let protocol = request.extensions.get::<h2::ext::Protocol>();
    let is_websocket = protocol.is_some_and(|protocol| protocol.as_str() == "websocket");
    let key = is_websocket.then(|| websocket::key(reactor.random()));
    let mut text = Vec::with_capacity(1024);
    let framing = head::append_request(&request, body.is_end_stream(), key.as_deref(), &mut text);
    let mut input = reactor.buffers.buffer();
    input.extend(&text);
    let mut answer = Answer {
        respond,
        to_head_request: request.method == http::Method::HEAD,
        is_raw: framing == Framing::Raw,
        state: State::Head(BytesMut::new(), HeadScan::default(), ResponseHead::default()),
    };
    let mut upload = Inflow::new(body, framing);
    let timeouts = listener.policy().timeouts;
    let mut patience = Patience::new(reactor.timers.timer(), timeouts.write);
    let shared = Rc::clone(&reactor);
    let arrived = Arrived { stream: Stream::Pipe(theirs), side, input };
    let mut exchange = pin!(client::serve(reactor, listener, arrived));
    let (mut serving, mut cancelled) = (true, false);
    let answered = poll_fn(|context| {
        // What a tunnel carries is no second request: it begins when the backend has agreed to it.
        if framing != Framing::Raw || answer.is_tunnel() {
            cancelled |= matches!(upload.poll(context, &ours), Poll::Ready(Err(Cut)));
        }
        if serving {
            serving = exchange.as_mut().poll(context).is_pending();
        }
        let answered = answer.poll(context, &ours);
        if answered.is_pending() && answer.is_tunnel() {
            let _ = upload.poll(context, &ours);
        }
        match answered {
            // The other direction of a tunnel goes on.
            Poll::Ready(Ok(())) if answer.is_tunnel() && serving => Poll::Pending,
            Poll::Pending if patience.is_over(context, answer.stalled_after()) => {
                answer.cancel();
                Poll::Ready(Err(Cut))
            }
            answered => answered,
        }
    })
    .await;
    if answered.is_err() {
        // An exchange that broke off by itself has counted itself.
        let broke_off = ours.was_reset();
        shared.counters.cut.add(u64::from(!broke_off));
        return if cancelled || !broke_off { End::Cancelled } else { End::Cut };
    }
    drop(ours);
    let mut left = client::LINGER_SIZE_MAX;
    let linger = patience.timer;
    linger.arm(client::LINGER_TIMEOUT);
    let rest = pin!(poll_fn(|context| upload.poll_discard(context, &mut left)));
    let _ = within(&linger, rest).await;
    End::Answered
}

/// How long a client may leave what is sent to it where it is.
struct Patience {
    timer: Timer,
    timeout: Duration,
    /// The timer runs since the client took so many pieces.
    armed_after: Option<u64>,
}

impl Patience {
    fn new(timer: Timer, timeout: Duration) -> Self {
        Self { timer, timeout, armed_after: None }
    }

    fn is_over(&mut self, context: &Context<'_>, stalled_after: Option<u64>) -> bool {
        self.timer.register(context);
        if stalled_after != self.armed_after {
            self.armed_after = stalled_after;
            match stalled_after {
                Some(_) => self.timer.arm(self.timeout),
                None => self.timer.disarm(),
            }
        }
        self.timer.fired()
    }
}

/// The answer on its way from the pipe to the client.
struct Answer {
    respond: SendResponse<Bytes>,
    to_head_request: bool,
    /// The request asks for a tunnel.
    is_raw: bool,
    state: State,
}

enum State {
    /// What was read of the head.
    Head(BytesMut, HeadScan, ResponseHead),
    Body(Outflow),
    Tunnel(Outflow),
}

impl Answer {
    fn is_tunnel(&self) -> bool {
        matches!(self.state, State::Tunnel(_))
    }

    /// How many pieces of the body the client has taken, while it is waited for to take another.
    fn stalled_after(&self) -> Option<u64> {
        match &self.state {
            State::Head(..) => None,
            State::Body(body) | State::Tunnel(body) => body.stalled_after(),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Head(..) => self.respond.send_reset(Reason::CANCEL),
            State::Body(body) | State::Tunnel(body) => body.cancel(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, pipe: &PipeEnd) -> Poll<Result<(), Cut>> {
        loop {
            let polled = match &mut self.state {
                State::Head(..) => self.poll_head(context, pipe),
                State::Body(body) | State::Tunnel(body) => {
                    return match body.poll(context, pipe) {
                        Poll::Pending if body.poll_reset(context).is_ready() => {
                            Poll::Ready(Err(Cut))
                        }
                        polled => polled,
                    };
                }
            };
            match polled {
                Poll::Ready(Ok(Some(state))) => self.state = state,
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Cut)) => {
                    self.respond.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(Cut));
                }
                Poll::Pending if self.respond.poll_reset(context).is_ready() => {
                    return Poll::Ready(Err(Cut));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads heads up to the last one and sends them; what comes next, or nothing if that was all.
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        pipe: &PipeEnd,
    ) -> Poll<Result<Option<State>, Cut>> {
        let State::Head(read, scan, response) = &mut self.state else {
            return Poll::Ready(Err(Cut));
        };
        loop {
            // Our own writing, so that what breaks the protocol is a cut and no answer.
            let Some(length) = scan.end(read).map_err(|_| Cut)? else {
                match ready!(pipe.poll_take(context)) {
                    Ok(bytes) if !bytes.is_empty() => read.extend_from_slice(&bytes),
                    _ => return Poll::Ready(Err(Cut)),
                }
                continue;
            };
            let text = read.split_to(length).freeze();
            *scan = HeadScan::default();
            response.parse(&text).map_err(|_| Cut)?;
            let mut translated = head::response(response, &text).map_err(|_| Cut)?;
            if response.status == 101 {
                if !self.is_raw {
                    return Poll::Ready(Err(Cut));
                }
                *translated.status_mut() = StatusCode::OK;
                translated.headers_mut().remove("sec-websocket-accept");
                let stream = self.respond.send_response(translated, false).map_err(|_| Cut)?;
                let rest = std::mem::take(read).freeze();
                let flow = Outflow::new(stream, Body::UntilClose, rest, Reason::INTERNAL_ERROR);
                return Poll::Ready(Ok(Some(State::Tunnel(flow))));
            }
            if response.is_interim() {
                let _ = self.respond.send_informational(translated);
                continue;
            }
            let body = response.body(&text, self.to_head_request).map_err(|_| Cut)?;
            let is_empty = matches!(body, Body::Length(0));
            let stream = self.respond.send_response(translated, is_empty).map_err(|_| Cut)?;
            if is_empty {
                return Poll::Ready(Ok(None));
            }
            let rest = std::mem::take(read).freeze();
            let flow = Outflow::new(stream, body, rest, Reason::INTERNAL_ERROR);
            return Poll::Ready(Ok(Some(State::Body(flow))));
        }
    }
}
