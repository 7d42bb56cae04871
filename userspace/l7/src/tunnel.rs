//! Bytes between two connections whose protocol is none of ours any more: what follows an upgrade.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::buffer::{Buffer, LARGE};
use crate::stream::Stream;
use crate::timers::Timer;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides have said all they had to say.
    Finished,
    /// Neither side said anything for too long.
    Idle,
    /// One side broke off: the other is to see that too.
    Broken,
}

/// A side with what was read from it and not yet written to the other.
pub(crate) struct Side<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) read: &'a mut Buffer,
}

/// Passes bytes both ways until both sides have ended. An end of one side is passed on, and the other
/// direction goes on.
pub(crate) async fn run(client: Side<'_>, backend: Side<'_>, timer: &Timer, idle: Duration) -> End {
    let (client_stream, backend_stream) = (client.stream, backend.stream);
    let mut up = Flow::new(client, backend_stream);
    let mut down = Flow::new(backend, client_stream);
    timer.arm(idle);
    poll_fn(|context| {
        timer.register(context);
        let (mut moved, mut ended) = (false, true);
        for flow in [&mut up, &mut down] {
            match flow.poll(context, &mut moved) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::Broken),
                Poll::Pending => ended = false,
            }
        }
        match (ended, moved) {
            (true, _) => return Poll::Ready(End::Finished),
            (false, true) => timer.arm(idle),
            (false, false) => {}
        }
        if timer.fired() { Poll::Ready(End::Idle) } else { Poll::Pending }
    })
    .await
}

/// One direction.
struct Flow<'a> {
    source: Side<'a>,
    sink: &'a Stream,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; the sink is to be told.
    Ending,
    Done,
}

impl<'a> Flow<'a> {
    fn new(source: Side<'a>, sink: &'a Stream) -> Self {
        Self { source, sink, state: State::Open }
    }

    fn poll(&mut self, context: &mut Context<'_>, moved: &mut bool) -> Poll<io::Result<()>> {
        let Side { stream, read } = &mut self.source;
        loop {
            while !read.is_empty() {
                let written = ready!(self.sink.poll_write(context, read.data(), &[]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                read.consume(written);
                *moved = true;
            }
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(self.sink.poll_shutdown(context))?;
                    read.release();
                    self.state = State::Done;
                }
                State::Open => {
                    // What was written before must not wait for what may never come.
                    ready!(self.sink.poll_flush(context))?;
                    if stream.poll_readable(context).is_pending() {
                        read.release();
                        return Poll::Pending;
                    }
                    let room = read.space().len();
                    match stream.poll_read(context, read.space()) {
                        Poll::Pending => {
                            read.release();
                            return Poll::Pending;
                        }
                        Poll::Ready(count) => {
                            let count = count?;
                            read.filled(count);
                            *moved = true;
                            if count == 0 {
                                self.state = State::Ending;
                            } else if count == room {
                                read.grow(LARGE);
                            }
                        }
                    }
                }
            }
        }
    }
}
