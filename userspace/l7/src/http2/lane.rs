//! A connection in memory that carries one stream of HTTP/2 after the other, and speaks HTTP/1.1 with an
//! exchange. What an exchange needs beside the stream is kept from one to the next.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::task::spawn_local;

use super::body::Cut;
use super::server::OpenStream;
use super::stream::{ClientStream, Scratch};
use crate::buffer::TINY;
use crate::client::{self, Client};
use crate::connection::Arrived;
use crate::forwarded::ClientSide;
use crate::listener::Listener;
use crate::reactor::Reactor;
use crate::stream::Stream;
use crate::timers::Timer;

/// Lanes of one connection that wait for its next streams: as many as a browser or a client of gRPC usually
/// has open.
const IDLE_MAX: usize = 32;
/// How long they wait. What many streams have to say goes out at once, so that a busy connection often has
/// none for a moment; one that is idle for longer needs no memory for them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// The lanes of one connection.
pub(super) struct Lanes {
    listener: Rc<Listener>,
    side: ClientSide,
    shared: Rc<Shared>,
}

/// What the lanes of a connection share.
struct Shared {
    reactor: Rc<Reactor>,
    /// Lanes that carry nothing; the last one used is used first.
    idle: RefCell<Vec<Rc<Lane>>>,
    /// There will be no other stream.
    is_closed: Cell<bool>,
    scratch: RefCell<Scratch>,
}

impl Lanes {
    pub(super) fn new(reactor: Rc<Reactor>, listener: Rc<Listener>, side: ClientSide) -> Self {
        let shared = Shared {
            reactor,
            idle: RefCell::default(),
            is_closed: Cell::new(false),
            scratch: RefCell::default(),
        };
        Self { listener, side, shared: Rc::new(shared) }
    }

    /// Has a stream served until its answer has passed, or nobody wants it any more.
    pub(super) fn carry(&self, accepted: Accepted, open: OpenStream) {
        let stream = ClientStream::new(accepted, open);
        loop {
            let idle = self.shared.idle.borrow_mut().pop();
            match idle {
                Some(lane) if lane.is_closed.get() => {}
                Some(lane) => return lane.carry(stream),
                None => return self.carry_anew(stream),
            }
        }
    }

    fn carry_anew(&self, stream: ClientStream) {
        let lane = Rc::new(Lane {
            shared: Rc::clone(&self.shared),
            stream: RefCell::new(Some(stream)),
            is_closed: Cell::new(false),
            is_shut: Cell::new(false),
            waiting: RefCell::default(),
            patience: self.shared.reactor.timers.timer(),
        });
        let (reactor, listener) = (Rc::clone(&self.shared.reactor), Rc::clone(&self.listener));
        let arrived = Arrived {
            stream: Stream::Lane(Rc::clone(&lane)),
            side: self.side.clone(),
            input: reactor.buffers.buffer_of(TINY),
        };
        let client = Client::new(reactor, listener, arrived, None);
        spawn_local(async move { lane.run(client).await });
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.shared.is_closed.set(true);
        for lane in self.shared.idle.take() {
            lane.is_closed.set(true);
            lane.wake();
        }
    }
}

/// One connection in memory.
pub(crate) struct Lane {
    shared: Rc<Shared>,
    stream: RefCell<Option<ClientStream>>,
    /// It carries no other stream.
    is_closed: Cell<bool>,
    /// Nothing more is written.
    is_shut: Cell<bool>,
    /// Whoever waits for the next stream.
    waiting: RefCell<Option<Waker>>,
    /// How long it is waited for.
    patience: Timer,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lane")
    }
}

impl Lane {
    fn carry(&self, stream: ClientStream) {
        *self.stream.borrow_mut() = Some(stream);
        self.patience.disarm();
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Serves stream after stream, up to one after which a connection of HTTP/1.1 would be closed.
    async fn run(&self, client: Box<Client>) {
        {
            let mut serving = pin!(client::run(client));
            poll_fn(|context| match serving.as_mut().poll(context) {
                Poll::Pending => self.poll_cancelled(context),
                served => served,
            })
            .await;
        }
        self.is_closed.set(true);
        poll_fn(|context| match &mut *self.stream.borrow_mut() {
            Some(stream) if stream.is_answered() && !self.is_shut.get() => {
                stream.poll_rest(context, &self.shared.reactor)
            }
            _ => Poll::Ready(()),
        })
        .await;
        if let Some(mut stream) = self.stream.take() {
            stream.reset();
        }
    }

    /// Ready when the client does not wait for its answer: the exchange is to be dropped.
    fn poll_cancelled(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) if !stream.is_answered() => ready!(stream.poll_cancelled(context)),
            _ => return Poll::Pending,
        }
        self.shared.reactor.counters.cut.add(1);
        Poll::Ready(())
    }

    /// Ready when there is something to read, or the end. A stream that is done with makes room for the
    /// next one.
    pub(crate) fn poll_readable(self: &Rc<Self>, context: &mut Context<'_>) -> Poll<()> {
        let carried = &mut *self.stream.borrow_mut();
        if let Some(stream) = carried {
            if self.is_shut.get() || !stream.is_answered() {
                return stream.poll_readable(context);
            }
            ready!(stream.poll_rest(context, &self.shared.reactor));
            *carried = None;
            self.offer();
        }
        self.patience.register(context);
        if self.patience.fired() {
            self.shared.idle.borrow_mut().retain(|lane| !Rc::ptr_eq(lane, self));
            self.is_closed.set(true);
        }
        if self.is_closed.get() {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Offers to carry another stream, unless there is none or enough others do.
    fn offer(self: &Rc<Self>) {
        let mut idle = self.shared.idle.borrow_mut();
        if self.shared.is_closed.get() || idle.len() >= IDLE_MAX {
            self.is_closed.set(true);
        } else {
            self.patience.arm(IDLE_TIMEOUT);
            idle.push(Rc::clone(self));
        }
    }

    /// Reads into `space`; 0 is the end.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => {
                let Shared { reactor, scratch, .. } = &*self.shared;
                let read = stream.poll_read(context, space, reactor, &mut scratch.borrow_mut());
                read.map_err(|_| io::ErrorKind::ConnectionReset.into())
            }
            None if self.is_closed.get() => Poll::Ready(Ok(0)),
            None => Poll::Pending,
        }
    }

    /// Writes what of `head` and then `body` the client takes.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        head: &[u8],
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut *self.stream.borrow_mut() {
            Some(stream) => {
                stream.poll_write(context, (head, body), &mut self.shared.scratch.borrow_mut())
            }
            None => Poll::Ready(Err(Cut)),
        };
        written.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Says that nothing more will be written.
    pub(crate) fn shutdown(&self) {
        self.is_shut.set(true);
        self.close();
    }

    /// The end of a tunnel; an answer says itself where it ends.
    pub(crate) fn close(&self) {
        if let Some(stream) = &mut *self.stream.borrow_mut() {
            stream.shutdown();
        }
    }

    /// Breaks off, so that nobody takes what was written for the whole.
    pub(crate) fn reset(&self) {
        if let Some(stream) = &mut *self.stream.borrow_mut() {
            stream.reset();
        }
    }
}
