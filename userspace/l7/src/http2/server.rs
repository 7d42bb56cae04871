//! A client connection of HTTP/2: its streams are accepted and served side by side.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::Request;
use tokio::task::spawn_local;

use super::{
    CONNECTION_WINDOW, ERROR_RESETS_MAX, PENDING_RESETS_MAX, SEND_BUFFER_MAX, STREAM_WINDOW,
    STREAMS_MAX, stream,
};
use crate::connection::Arrived;
use crate::deferred::Deferred;
use crate::forwarded::ClientSide;
use crate::io::within;
use crate::listener::Listener;
use crate::reactor::Reactor;
use crate::snapshot::ListenerPolicy;
use crate::timers::Timer;

/// How long a client may take to go once it was told to.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a connection until it is closed.
pub(crate) async fn serve(reactor: Rc<Reactor>, listener: Rc<Listener>, arrived: Arrived) {
    let Some(policy) = reactor.snapshot().listener(listener.configured).map(|it| it.policy) else {
        return;
    };
    let Arrived { stream, side, input } = arrived;
    let timer = reactor.timers.timer();
    timer.arm(policy.timeouts.header);
    let io = Deferred::new(stream, input, Rc::clone(&reactor.flusher));
    let Ok(Ok(connection)) = within(&timer, builder(&policy).handshake(io)).await else { return };
    let mut serving = Serving {
        connection,
        timer,
        policy,
        open: Rc::default(),
        served: 0,
        armed: false,
        leaving: false,
    };
    while let Some((request, respond)) = serving.next(&reactor, &listener).await {
        serving.served += 1;
        let open = OpenStream::new(&serving.open);
        let (reactor, listener, side) = (Rc::clone(&reactor), Rc::clone(&listener), side.clone());
        spawn_local(serve_stream(reactor, listener, side, request, respond, open));
    }
}

async fn serve_stream(
    reactor: Rc<Reactor>,
    listener: Rc<Listener>,
    side: ClientSide,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    open: OpenStream,
) {
    stream::serve(reactor, listener, side, request, respond).await;
    drop(open);
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
    /// Streams being served.
    open: Rc<Cell<usize>>,
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
        loop {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok(accepted))) => return Poll::Ready(Some(accepted)),
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            let is_idle = self.open.get() == 0;
            if is_idle && self.timer.fired() && self.leaving {
                return Poll::Ready(None);
            }
            if !self.leaving && self.has_had_enough(reactor, listener, is_idle) {
                self.leaving = true;
                self.connection.graceful_shutdown();
                self.timer.arm(GOODBYE_TIMEOUT);
                self.armed = true;
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
            return Poll::Pending;
        }
    }

    fn has_had_enough(&self, reactor: &Reactor, listener: &Listener, is_idle: bool) -> bool {
        let idle_for_long = is_idle && self.armed && self.timer.fired();
        let served_all = self.policy.limits.requests.is_some_and(|max| self.served >= max);
        reactor.draining.get() || listener.closing.get() || idle_for_long || served_all
    }
}

/// Counts a stream while it is served.
struct OpenStream(Rc<Cell<usize>>);

impl OpenStream {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
