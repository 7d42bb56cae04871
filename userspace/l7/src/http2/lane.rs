//! A connection in memory that carries one stream of HTTP/2 after the other, and speaks HTTP/1.1 with an
//! exchange. What an exchange needs beside the stream is kept from one to the next.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::task::spawn_local;

use super::LANES_IDLE_MAX;
use super::server::OpenStream;
use super::stream::{ClientStream, Scratch};
use crate::client::{self, Client};
use crate::connection::Arrived;
use crate::forwarded::ClientSide;
use crate::listener::Listener;
use crate::reactor::Reactor;
use crate::stream::Stream;

/// The lanes of one connection.
pub(super) struct Lanes {
    reactor: Rc<Reactor>,
    listener: Rc<Listener>,
    side: ClientSide,
    idle: Rc<Idle>,
}

/// Those that carry nothing; the last one used is used first.
type Idle = RefCell<Vec<Rc<Lane>>>;

impl Lanes {
    pub(super) fn new(reactor: Rc<Reactor>, listener: Rc<Listener>, side: ClientSide) -> Self {
        Self { reactor, listener, side, idle: Rc::default() }
    }

    /// Has a stream served until its answer has passed, or nobody wants it any more.
    pub(super) fn carry(
        &self,
        accepted: (Request<RecvStream>, SendResponse<Bytes>),
        open: OpenStream,
    ) {
        loop {
            let idle = self.idle.borrow_mut().pop();
            match idle {
                Some(lane) if lane.is_closed.get() => {}
                Some(lane) => return lane.carry(accepted, open),
                None => break,
            }
        }
        let lane = Rc::new(Lane {
            reactor: Rc::clone(&self.reactor),
            idle: Rc::downgrade(&self.idle),
            carried: RefCell::default(),
            is_closed: Cell::new(false),
            is_shut: Cell::new(false),
            waiting: RefCell::default(),
        });
        lane.carry(accepted, open);
        let arrived = Arrived {
            stream: Stream::Lane(Rc::clone(&lane)),
            side: self.side.clone(),
            input: self.reactor.buffers.buffer(),
        };
        let (reactor, listener) = (Rc::clone(&self.reactor), Rc::clone(&self.listener));
        if let Some(client) = Client::new(reactor, listener, arrived, None) {
            spawn_local(async move { lane.run(client).await });
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for lane in self.idle.take() {
            lane.is_closed.set(true);
            lane.wake();
        }
    }
}

/// One connection in memory.
pub(crate) struct Lane {
    reactor: Rc<Reactor>,
    /// Where it waits for the next stream.
    idle: Weak<Idle>,
    carried: RefCell<Carried>,
    /// There will be no other stream.
    is_closed: Cell<bool>,
    /// Nothing more is written.
    is_shut: Cell<bool>,
    /// Whoever waits for the next stream.
    waiting: RefCell<Option<Waker>>,
}

#[derive(Debug, Default)]
struct Carried {
    stream: Option<ClientStream>,
    scratch: Scratch,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lane")
    }
}

impl Lane {
    fn carry(&self, accepted: (Request<RecvStream>, SendResponse<Bytes>), open: OpenStream) {
        let Carried { stream, scratch } = &mut *self.carried.borrow_mut();
        *stream = Some(ClientStream::new(&self.reactor, accepted, open, scratch));
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
        poll_fn(|context| match &mut self.carried.borrow_mut().stream {
            Some(stream) if stream.is_answered() && !self.is_shut.get() => {
                stream.poll_rest(context, &self.reactor)
            }
            _ => Poll::Ready(()),
        })
        .await;
        if let Some(mut stream) = self.carried.borrow_mut().stream.take() {
            stream.reset();
        }
    }

    /// Ready when the client does not wait for its answer: the exchange is to be dropped.
    fn poll_cancelled(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.carried.borrow_mut().stream {
            Some(stream) if !stream.is_answered() => ready!(stream.poll_cancelled(context)),
            _ => return Poll::Pending,
        }
        self.reactor.counters.cut.add(1);
        Poll::Ready(())
    }

    /// Ready when there is something to read, or the end. A stream that is done with makes room for the
    /// next one.
    pub(crate) fn poll_readable(self: &Rc<Self>, context: &mut Context<'_>) -> Poll<()> {
        let Carried { stream, scratch } = &mut *self.carried.borrow_mut();
        if let Some(carried) = stream {
            if self.is_shut.get() || !carried.is_answered() {
                return carried.poll_readable(context, scratch);
            }
            ready!(carried.poll_rest(context, &self.reactor));
            *stream = None;
            self.offer();
        }
        if self.is_closed.get() {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Offers to carry another stream, unless enough others do.
    fn offer(self: &Rc<Self>) {
        match self.idle.upgrade() {
            Some(idle) if idle.borrow().len() < LANES_IDLE_MAX => {
                idle.borrow_mut().push(Rc::clone(self));
            }
            _ => self.is_closed.set(true),
        }
    }

    /// Reads into `space`; 0 is the end.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Carried { stream, scratch } = &mut *self.carried.borrow_mut();
        match stream {
            Some(stream) => stream
                .poll_read(context, space, scratch)
                .map_err(|_| io::ErrorKind::ConnectionReset.into()),
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
        let Carried { stream, scratch } = &mut *self.carried.borrow_mut();
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let Some(stream) = stream else { return Poll::Ready(Err(broken())) };
        stream.poll_write(context, (head, body), scratch).map_err(|_| broken())
    }

    /// Says that nothing more will be written.
    pub(crate) fn shutdown(&self) {
        self.is_shut.set(true);
        self.close();
    }

    /// The end of a tunnel; an answer says itself where it ends.
    pub(crate) fn close(&self) {
        if let Some(stream) = &mut self.carried.borrow_mut().stream {
            stream.shutdown();
        }
    }

    /// Breaks off, so that nobody takes what was written for the whole.
    pub(crate) fn reset(&self) {
        if let Some(stream) = &mut self.carried.borrow_mut().stream {
            stream.reset();
        }
    }
}
