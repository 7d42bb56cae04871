//! A connection in memory: how a stream of HTTP/2 to a backend speaks HTTP/1.1 with an exchange.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

/// Bytes that wait in one direction; then the writer waits.
const WAITING_MAX: usize = 64 * 1024;

/// One end of a connection in memory. Dropping it ends both directions.
#[derive(Debug)]
pub(crate) struct PipeEnd {
    incoming: Rc<Direction>,
    outgoing: Rc<Direction>,
}

#[derive(Debug, Default)]
struct Direction {
    waiting: RefCell<BytesMut>,
    end: Cell<End>,
    /// Nobody reads any more.
    abandoned: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

/// How a direction ends once what waits in it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    Closed,
    Reset,
}

/// Nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// A connection: what is written at one end is read at the other.
pub(crate) fn pipe() -> (PipeEnd, PipeEnd) {
    let (there, back) = (Rc::<Direction>::default(), Rc::<Direction>::default());
    let one = PipeEnd { incoming: Rc::clone(&back), outgoing: Rc::clone(&there) };
    (one, PipeEnd { incoming: there, outgoing: back })
}

impl PipeEnd {
    /// Ready when there is something to read, or the end.
    pub(crate) fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        let Direction { waiting, end, reader, .. } = &*self.incoming;
        if !waiting.borrow().is_empty() || end.get() != End::Open {
            return Poll::Ready(());
        }
        register(reader, context);
        Poll::Pending
    }

    /// Reads into `space`; 0 is the end.
    pub(crate) fn poll_read(
        &self,
        context: &Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (count, rest) = {
            let mut waiting = self.incoming.waiting.borrow_mut();
            let count = waiting.len().min(space.len());
            let bytes = waiting.split_to(count);
            if let Some(space) = space.get_mut(..count) {
                space.copy_from_slice(&bytes);
            }
            (count, waiting.len())
        };
        self.read(context, count, rest)
    }

    /// Reads whatever waits, without copying it; empty is the end.
    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<io::Result<Bytes>> {
        let bytes = std::mem::take(&mut *self.incoming.waiting.borrow_mut()).freeze();
        self.read(context, bytes.len(), 0).map_ok(|_| bytes)
    }

    fn read(&self, context: &Context<'_>, count: usize, rest: usize) -> Poll<io::Result<usize>> {
        let Direction { end, reader, writer, .. } = &*self.incoming;
        match (count, end.get()) {
            (0, End::Closed) => Poll::Ready(Ok(0)),
            (0, End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            (0, End::Open) => {
                register(reader, context);
                Poll::Pending
            }
            _ => {
                if rest < WAITING_MAX {
                    wake(writer);
                }
                Poll::Ready(Ok(count))
            }
        }
    }

    /// Writes what of `head` and then `body` there is room for.
    pub(crate) fn poll_write(
        &self,
        context: &Context<'_>,
        head: &[u8],
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Direction { waiting, end, abandoned, reader, writer } = &*self.outgoing;
        if abandoned.get() || end.get() != End::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut waiting = waiting.borrow_mut();
        let room = WAITING_MAX.saturating_sub(waiting.len());
        if room == 0 {
            register(writer, context);
            return Poll::Pending;
        }
        let of_head = head.len().min(room);
        let of_body = body.len().min(room - of_head);
        waiting.extend_from_slice(head.get(..of_head).unwrap_or_default());
        waiting.extend_from_slice(body.get(..of_body).unwrap_or_default());
        wake(reader);
        Poll::Ready(Ok(of_head + of_body))
    }

    /// Ready when there is room to write; an error when nobody reads any more.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<Result<(), Abandoned>> {
        let Direction { waiting, abandoned, writer, .. } = &*self.outgoing;
        if abandoned.get() {
            return Poll::Ready(Err(Abandoned));
        }
        if waiting.borrow().len() >= WAITING_MAX {
            register(writer, context);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether nobody reads any more; else the task hears of it.
    pub(crate) fn is_abandoned(&self, context: &Context<'_>) -> bool {
        register(&self.outgoing.writer, context);
        self.outgoing.abandoned.get()
    }

    /// Writes all of the pieces: for who has asked for room, and writes a frame at a time.
    pub(crate) fn push(&self, pieces: &[&[u8]]) {
        let mut waiting = self.outgoing.waiting.borrow_mut();
        pieces.iter().for_each(|piece| waiting.extend_from_slice(piece));
        wake(&self.outgoing.reader);
    }

    /// Says that nothing more will be written.
    pub(crate) fn shutdown(&self) {
        self.outgoing.finish(End::Closed);
    }

    /// Ends both directions so that nobody takes what was written for the whole.
    pub(crate) fn reset(&self) {
        self.outgoing.finish(End::Reset);
    }
}

impl Direction {
    fn finish(&self, end: End) {
        if self.end.get() == End::Open {
            self.end.set(end);
        }
        wake(&self.reader);
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.outgoing.finish(End::Closed);
        self.incoming.abandoned.set(true);
        wake(&self.incoming.writer);
    }
}

fn register(place: &RefCell<Option<Waker>>, context: &Context<'_>) {
    let mut place = place.borrow_mut();
    match &*place {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => *place = Some(context.waker().clone()),
    }
}

fn wake(place: &RefCell<Option<Waker>>) {
    if let Some(waker) = place.borrow_mut().take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn bytes_arrive_in_order_up_to_the_end() {
        let (one, other) = pipe();
        let mut space = [0; 4];
        assert!(other.poll_read(&context(), &mut space).is_pending());
        assert!(matches!(one.poll_write(&context(), b"he", b"llo"), Poll::Ready(Ok(5))));
        assert!(matches!(other.poll_read(&context(), &mut space), Poll::Ready(Ok(4))));
        assert_eq!(&space, b"hell");
        drop(one);
        let rest = other.poll_take(&context());
        assert!(matches!(rest, Poll::Ready(Ok(bytes)) if &bytes[..] == b"o"));
        assert!(matches!(other.poll_read(&context(), &mut space), Poll::Ready(Ok(0))));
        assert!(matches!(other.poll_write(&context(), b"x", b""), Poll::Ready(Err(_))));
    }

    #[test]
    fn a_writer_waits_for_a_reader_and_a_reset_is_no_end() {
        let (one, other) = pipe();
        let much = vec![0; WAITING_MAX + 1];
        assert!(matches!(
            one.poll_write(&context(), &much, b""),
            Poll::Ready(Ok(count)) if count == WAITING_MAX
        ));
        assert!(one.poll_write(&context(), b"x", b"").is_pending());
        one.reset();
        drop(one);
        assert!(matches!(other.poll_take(&context()), Poll::Ready(Ok(_))));
        assert!(matches!(other.poll_take(&context()), Poll::Ready(Err(_))));
    }
}
