//! Writes that wait for the end of the reactor's turn: what many streams of a connection have to say
//! then goes out in one call.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;
use crate::stream::Stream;

/// Bytes that wait; more are written at once.
const WAITING_MAX: usize = 64 * 1024;

/// The connections of a reactor that have something to say at the end of its turn.
#[derive(Debug, Default)]
pub(crate) struct Flusher {
    waiting: RefCell<Vec<Rc<Shared>>>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Shared {
    stream: Stream,
    out: RefCell<BytesMut>,
    /// It is among those that wait for the end of the turn.
    queued: Cell<bool>,
    failed: Cell<bool>,
    /// Whoever waits for room, or for everything to be gone.
    writer: RefCell<Option<Waker>>,
}

impl Flusher {
    /// Writes what has gathered, turn after turn.
    pub(crate) async fn run(self: Rc<Self>) {
        std::future::poll_fn(|context| -> Poll<()> {
            let mut own = self.waker.borrow_mut();
            if own.is_none() {
                *own = Some(context.waker().clone());
            }
            drop(own);
            let mut waiting = self.waiting.take();
            waiting.retain(|shared| shared.poll_flush(context).is_pending());
            self.waiting.borrow_mut().append(&mut waiting);
            Poll::Pending
        })
        .await;
    }

    fn queue(&self, shared: &Rc<Shared>) {
        if !shared.queued.replace(true) {
            self.waiting.borrow_mut().push(Rc::clone(shared));
            self.wake();
        }
    }

    /// The task goes to the end of the queue: behind all that have something to say this turn.
    fn wake(&self) {
        self.waker.borrow().iter().for_each(Waker::wake_by_ref);
    }
}

impl Shared {
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut out = self.out.borrow_mut();
        while !out.is_empty() && !self.failed.get() {
            match self.stream.poll_write(context, &out, &[]) {
                Poll::Ready(Ok(count)) if count > 0 => out.advance(count),
                Poll::Ready(_) => self.failed.set(true),
                Poll::Pending => return Poll::Pending,
            }
        }
        if !self.failed.get() {
            match self.stream.poll_flush(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => self.failed.set(true),
                Poll::Ready(Ok(())) => {}
            }
        }
        self.queued.set(false);
        if let Some(writer) = self.writer.borrow_mut().take() {
            writer.wake();
        }
        Poll::Ready(())
    }
}

/// A connection whose writes are put off.
#[derive(Debug)]
pub(crate) struct Deferred {
    shared: Rc<Shared>,
    /// What was read before; used first.
    input: Buffer,
    flusher: Rc<Flusher>,
}

impl Deferred {
    pub(crate) fn new(stream: Stream, input: Buffer, flusher: Rc<Flusher>) -> Self {
        let shared = Shared {
            stream,
            out: RefCell::default(),
            queued: Cell::new(false),
            failed: Cell::new(false),
            writer: RefCell::default(),
        };
        Self { shared: Rc::new(shared), input, flusher }
    }

    fn wait(&self, context: &Context<'_>) {
        *self.shared.writer.borrow_mut() = Some(context.waker().clone());
    }

    fn error(&self) -> Option<io::Error> {
        self.shared.failed.get().then(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Deferred {
    /// What the socket does not take now is lost, so that a peer that reads nothing holds no socket:
    /// whoever wanted it to arrive has waited in `poll_shutdown`.
    fn drop(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if self.shared.poll_flush(&mut context).is_ready() && !self.shared.failed.get() {
            let _ = self.shared.stream.poll_shutdown(&mut context);
        }
        self.shared.failed.set(true);
        self.flusher.wake();
    }
}

impl AsyncRead for Deferred {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let held = self.input.data();
        if !held.is_empty() {
            let count = held.len().min(space.remaining());
            space.put_slice(held.get(..count).unwrap_or_default());
            self.input.consume(count);
            self.input.release();
            return Poll::Ready(Ok(()));
        }
        let read = self.shared.stream.poll_read(context, space.initialize_unfilled());
        read.map_ok(|count| space.advance(count))
    }
}

impl AsyncWrite for Deferred {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error() {
            return Poll::Ready(Err(error));
        }
        if self.shared.out.borrow().len() >= WAITING_MAX {
            self.wait(context);
            self.flusher.queue(&self.shared);
            return Poll::Pending;
        }
        self.shared.out.borrow_mut().extend_from_slice(bytes);
        self.flusher.queue(&self.shared);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Done at once: the end of the turn is soon enough.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.error().map_or(Ok(()), Err))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.error() {
            return Poll::Ready(Err(error));
        }
        if !self.shared.out.borrow().is_empty() {
            self.wait(context);
            return Poll::Pending;
        }
        self.shared.stream.poll_shutdown(context)
    }
}
