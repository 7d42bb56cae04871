//! Reading and writing with a deadline. None of these is an `async fn`, whose future would hold every
//! argument twice: an exchange is made on the heap for each request.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::buffer::Buffer;
use crate::stream::Stream;
use crate::timers::Timer;

/// Up to so many bytes wait until the other tasks of the turn have had theirs: a turn then reads what has
/// arrived, and after that sends. The kernel's code for each stays in the cache, which is worth more
/// than what another poll of the task costs: 5 % of a small request. Larger ones would only push each other out of it.
const DEFERRED_MAX: usize = 4 * 1024;

/// Why bytes could not be moved.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum IoError {
    /// The deadline fired.
    TimedOut,
    /// The peer closed or reset the connection.
    Closed,
    /// The same, and the kernel took not one byte of what was to be written.
    Unsent,
}

/// How long one wait may take. The timer is armed when there is something to wait for, so an
/// operation that succeeds at once costs nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// This long, from when the wait begins.
    AtMost(Duration),
    /// Until the deadline that was armed before.
    Armed,
}

/// Reads at least one byte into `space`; 0 is the end of the stream.
pub(crate) fn read(
    stream: &Stream,
    space: &mut [u8],
    timer: &Timer,
    wait: Wait,
) -> impl Future<Output = Result<usize, IoError>> {
    let mut waiting = Waiting { timer, wait, armed: false };
    poll_fn(move |context| match stream.poll_read(context, space) {
        Poll::Ready(read) => Poll::Ready(read.map_err(|_| IoError::Closed)),
        Poll::Pending => waiting.poll(context).map(Err),
    })
}

/// Reads at least one byte into a buffer, which holds no memory while there is nothing to read; 0 is the
/// end of the stream.
pub(crate) fn fill(
    stream: &Stream,
    buffer: &mut Buffer,
    timer: &Timer,
    wait: Wait,
) -> impl Future<Output = Result<usize, IoError>> {
    let mut waiting = Waiting { timer, wait, armed: false };
    poll_fn(move |context| {
        if buffer.is_empty() && stream.poll_readable(context).is_pending() {
            buffer.release();
            return waiting.poll(context).map(Err);
        }
        match stream.poll_read(context, buffer.space()) {
            Poll::Ready(Ok(count)) => {
                buffer.filled(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(IoError::Closed)),
            Poll::Pending => {
                buffer.release();
                waiting.poll(context).map(Err)
            }
        }
    })
}

/// Writes all of `head`, then all of `body`, in as few calls as the kernel takes; little of it at the end of
/// the reactor's turn.
pub(crate) fn write(
    stream: &Stream,
    mut head: &[u8],
    mut body: &[u8],
    timer: &Timer,
    wait: Wait,
) -> impl Future<Output = Result<(), IoError>> {
    let mut error = IoError::Unsent;
    let mut waiting = Waiting { timer, wait, armed: false };
    let mut is_due = !stream.is_plain() || head.len() + body.len() > DEFERRED_MAX;
    poll_fn(move |context| {
        if !is_due {
            is_due = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        while !(head.is_empty() && body.is_empty()) {
            match stream.poll_write(context, head, body) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(written)) => {
                    (error, waiting.armed) = (IoError::Closed, false);
                    let of_head = written.min(head.len());
                    head = head.get(of_head..).unwrap_or_default();
                    body = body.get(written - of_head..).unwrap_or_default();
                }
                Poll::Pending => return waiting.poll(context).map(Err),
            }
        }
        match stream.poll_flush(context) {
            Poll::Ready(flushed) => Poll::Ready(flushed.map_err(|_| IoError::Closed)),
            Poll::Pending => waiting.poll(context).map(Err),
        }
    })
}

/// Whatever is polled, within the deadline.
pub(crate) fn wait_for(
    timer: &Timer,
    wait: Wait,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<usize>>,
) -> impl Future<Output = Result<usize, IoError>> {
    let mut waiting = Waiting { timer, wait, armed: false };
    poll_fn(move |context| match poll(context) {
        Poll::Ready(done) => Poll::Ready(done.map_err(|_| IoError::Closed)),
        Poll::Pending => waiting.poll(context).map(Err),
    })
}

/// Says that nothing more will be written, within the deadline that was armed before.
pub(crate) async fn shutdown(stream: &Stream, timer: &Timer) -> Result<(), IoError> {
    let mut waiting = Waiting { timer, wait: Wait::Armed, armed: false };
    poll_fn(|context| match stream.poll_shutdown(context) {
        Poll::Ready(done) => Poll::Ready(done.map_err(|_| IoError::Closed)),
        Poll::Pending => waiting.poll(context).map(Err),
    })
    .await
}

/// Whatever `work` comes to, unless the deadline that was armed before fires.
pub(crate) fn within<T>(
    timer: &Timer,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Result<T, IoError>> {
    let mut waiting = Waiting { timer, wait: Wait::Armed, armed: false };
    poll_fn(move |context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => waiting.poll(context).map(Err),
    })
}

/// One wait for the kernel, which the deadline may end.
struct Waiting<'a> {
    timer: &'a Timer,
    wait: Wait,
    armed: bool,
}

impl Waiting<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<IoError> {
        if !self.armed {
            self.armed = true;
            self.timer.register(context);
            if let Wait::AtMost(after) = self.wait {
                self.timer.arm(after);
            }
        }
        if self.timer.fired() { Poll::Ready(IoError::TimedOut) } else { Poll::Pending }
    }
}
