//! Reading and writing with a deadline.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::timers::Timer;

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
pub(crate) async fn read(
    half: &mut ReadHalf<'_>,
    space: &mut [u8],
    timer: &Timer,
    wait: Wait,
) -> Result<usize, IoError> {
    let mut waiting = Waiting { timer, wait, armed: false };
    poll_fn(|context| {
        let mut space = ReadBuf::new(space);
        match Pin::new(&mut *half).poll_read(context, &mut space) {
            Poll::Ready(read) => {
                Poll::Ready(read.map(|()| space.filled().len()).map_err(|_| IoError::Closed))
            }
            Poll::Pending => waiting.poll(context).map(Err),
        }
    })
    .await
}

/// Writes all of `head`, then all of `body`, in as few calls as the kernel takes.
pub(crate) async fn write(
    half: &mut WriteHalf<'_>,
    mut head: &[u8],
    mut body: &[u8],
    timer: &Timer,
    wait: Wait,
) -> Result<(), IoError> {
    let mut error = IoError::Unsent;
    while !(head.is_empty() && body.is_empty()) {
        let mut waiting = Waiting { timer, wait, armed: false };
        let mut written = poll_fn(|context| match poll_write(half, context, head, body) {
            Poll::Ready(written) => Poll::Ready(written.map_err(|_| error)),
            Poll::Pending => waiting.poll(context).map(Err),
        })
        .await?;
        error = IoError::Closed;
        let of_head = written.min(head.len());
        head = head.get(of_head..).unwrap_or_default();
        written -= of_head;
        body = body.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn poll_write(
    half: &mut WriteHalf<'_>,
    context: &mut Context<'_>,
    head: &[u8],
    body: &[u8],
) -> Poll<io::Result<usize>> {
    let half = Pin::new(half);
    let written = match (head.is_empty(), body.is_empty()) {
        (false, false) => {
            half.poll_write_vectored(context, &[IoSlice::new(head), IoSlice::new(body)])
        }
        (false, true) => half.poll_write(context, head),
        (true, _) => half.poll_write(context, body),
    };
    match ready!(written) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        other => Poll::Ready(other),
    }
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
