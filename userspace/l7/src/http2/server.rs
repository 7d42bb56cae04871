//! A client connection of HTTP/2: its streams are accepted and served side by side.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;

use super::lane::Lanes;
use super::{
    CONNECTION_WINDOW, ERROR_RESETS_MAX, PENDING_RESETS_MAX, PREMATURE, PREMATURE_RESETS_MAX,
    SEND_BUFFER_MAX, STREAM_WINDOW, STREAMS_MAX,
};
use crate::connection::Arrived;
use crate::deferred::Deferred;
use crate::io::within;
use crate::listener::Listener;
use crate::reactor::Reactor;
use crate::snapshot::ListenerPolicy;
use crate::timers::Timer;

/// How long nothing may be open on a connection that is to end before its client is told to go. What a
/// client sends in the moment in which it is told is not lost to a browser, but to simpler clients.
const QUIET: Duration = Duration::from_secs(1);
/// How long a client may take to go once it was told to.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a connection until it is closed.
pub(crate) async fn serve(reactor: Rc<Reactor>, listener: Rc<Listener>, arrived: Arrived) {
    let policy = listener.policy();
    let Arrived { stream, side, input } = arrived;
    let timer = reactor.timers.timer();
    timer.arm(policy.timeouts.header);
    let io = Deferred::new(stream, input, Rc::clone(&reactor.flusher));
    let handshake = std::pin::pin!(builder(&policy).handshake(io));
    let Ok(Ok(connection)) = within(&timer, handshake).await else { return };
    let mut serving = Serving {
        connection,
        timer,
        policy,
        streams: Rc::default(),
        served: 0,
        armed: false,
        leaving: false,
    };
    let lanes = Lanes::new(Rc::clone(&reactor), Rc::clone(&listener), side);
    while let Some(accepted) = serving.next(&reactor, &listener).await {
        serving.served += 1;
        lanes.carry(accepted, OpenStream::new(&serving.streams));
    }
}

fn builder(policy: &ListenerPolicy) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_header_list_size(u32::try_from(policy.limits.header_size).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .enable_connect_protocol();
    builder
}

struct Serving {
    connection: Connection<Deferred, Bytes>,
    timer: Timer,
    policy: ListenerPolicy,
    streams: Rc<Streams>,
    served: u64,
    /// The timer runs because nothing is open.
    armed: bool,
    /// The client was told to go.
    leaving: bool,
}

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

impl Serving {
    /// The next stream; `None` when the connection is done with.
    async fn next(&mut self, reactor: &Reactor, listener: &Listener) -> Option<Accepted> {
        poll_fn(|context| self.poll_next(context, reactor, listener)).await
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        reactor: &Reactor,
        listener: &Listener,
    ) -> Poll<Option<Accepted>> {
        self.timer.register(context);
        self.streams.register(context);
        loop {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok(accepted))) => return Poll::Ready(Some(accepted)),
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if !self.leaving && self.is_abused() {
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                self.leave();
                continue;
            }
            let is_idle = self.streams.open.get() == 0;
            if is_idle && self.timer.fired() && self.leaving {
                return Poll::Ready(None);
            }
            if !self.leaving && self.has_had_enough(reactor, listener, is_idle) {
                self.connection.graceful_shutdown();
                self.leave();
                continue;
            }
            match (is_idle, self.armed) {
                (true, false) => self.timer.arm(match (self.leaving, self.served) {
                    (true, _) => GOODBYE_TIMEOUT,
                    (false, 0) => self.policy.timeouts.header,
                    (false, _) => self.policy.timeouts.idle,
                }),
                (false, true) => self.timer.disarm(),
                _ => {}
            }
            self.armed = is_idle;
            if is_idle && !self.leaving && listener.closing.get() {
                self.timer.arm_at_most(QUIET);
            }
            return Poll::Pending;
        }
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.timer.arm(GOODBYE_TIMEOUT);
        self.armed = true;
    }

    fn is_abused(&self) -> bool {
        let premature = self.streams.premature.get();
        premature > PREMATURE_RESETS_MAX && premature > self.served / 2
    }

    fn has_had_enough(&self, reactor: &Reactor, listener: &Listener, is_idle: bool) -> bool {
        let idle_for_long = is_idle && self.armed && self.timer.fired();
        let served_all = self.policy.limits.requests.is_some_and(|max| self.served >= max);
        let is_over = listener.closing.get() && reactor.now() >= listener.idle_until.get();
        idle_for_long || served_all || is_over
    }
}

/// The streams of a connection.
#[derive(Debug, Default)]
struct Streams {
    /// How many are being served.
    open: Cell<usize>,
    /// How many ended early without an answer.
    premature: Cell<u64>,
    /// Whoever serves the connection: told when the last one is done, as `h2` does so only while its own
    /// writes are not held up.
    waker: RefCell<Option<Waker>>,
}

impl Streams {
    fn register(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }
}

/// Counts a stream while it is served.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Rc<Streams>,
    began: Instant,
    /// The client did not wait for its answer.
    pub(super) cancelled: bool,
}

impl OpenStream {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self { streams: Rc::clone(streams), began: Instant::now(), cancelled: false }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if self.cancelled && self.began.elapsed() < PREMATURE {
            self.streams.premature.set(self.streams.premature.get() + 1);
        }
        let left = self.streams.open.get() - 1;
        self.streams.open.set(left);
        if left == 0 {
            self.streams.waker.borrow().iter().for_each(Waker::wake_by_ref);
        }
    }
}
