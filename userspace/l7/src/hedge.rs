//! A request that is slow to be answered is sent to a second backend; the first answer wins.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use weir_balance::Outcome;

use crate::answer::{Incoming, read_final_head};
use crate::attempts::{Attempts, BackendConnection};
use crate::buffer::{Buffer, MEDIUM};
use crate::client::Client;
use crate::exchange::Failure;
use crate::http1::response::ResponseHead;
use crate::io::{IoError, Wait, within, write};
use crate::reactor::Reactor;
use crate::request_body::BodyPlace;
use crate::snapshot::Service;
use crate::stream::Stream;
use crate::timers::Timer;

/// Sends the whole request of `client` and waits for the head of an answer, which is then the client's;
/// `backend` is the one that gave it. Answers before the answer are not passed on.
pub(crate) async fn send(
    client: &mut Client,
    service: &Service,
    attempts: &Attempts<'_>,
    backend: &mut BackendConnection,
    after: Duration,
) -> Result<(), Failure> {
    let reactor = Rc::clone(&client.reactor);
    let (mut one, mut other) = (Attempt::new(&reactor), Attempt::new(&reactor));
    let BodyPlace::Whole(body) = client.body else { return Err(Failure::Cut) };
    let body = client.request.length..client.request.length + body;
    let request = Request {
        head: &client.to_backend,
        body: client.input.data().get(body).unwrap_or_default(),
        service,
    };
    let first = backend.open.backend();
    let winner = {
        let mut running = pin!(one.run(backend.stream(), request));
        let patience = reactor.timers.timer();
        patience.arm(after);
        match within(&patience, running.as_mut()).await {
            Ok(done) => done.map(|()| Winner::First)?,
            Err(_) => match attempts.elsewhere(&reactor, first) {
                None => running.await.map(|()| Winner::First)?,
                Some(mut others) => {
                    reactor.counters.hedges.add(1);
                    race(running, pin!(other.elsewhere(&reactor, &mut others, request))).await?
                }
            },
        }
    };
    let Attempt { buffer, response, timer } = match winner {
        Winner::First => one,
        Winner::Second(connection, failed) => {
            match failed {
                Some(failure) => attempts.tell_failure(&reactor, first, failure),
                None => {
                    backend.watch.stop();
                    let after = backend.watch.took();
                    attempts.tell(&reactor, first, Outcome::Overtaken { after });
                }
            }
            *backend = connection;
            other
        }
    };
    (client.from_backend, client.response, client.timer) = (buffer, response, timer);
    Ok(())
}

/// Whose answer came first.
enum Winner {
    First,
    /// With how the first one had failed by then, if it had.
    Second(BackendConnection, Option<Failure>),
}

/// Whichever is first to come to an answer; the failure of one leaves the other.
async fn race(
    mut first: impl Future<Output = Result<(), Failure>> + Unpin,
    mut second: impl Future<Output = Result<BackendConnection, Failure>> + Unpin,
) -> Result<Winner, Failure> {
    let (mut failed, mut other_failed) = (None, false);
    poll_fn(|context| {
        if failed.is_none() {
            match std::pin::Pin::new(&mut first).poll(context) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(Winner::First)),
                Poll::Ready(Err(failure)) => failed = Some(failure),
                Poll::Pending => {}
            }
        }
        if !other_failed {
            match std::pin::Pin::new(&mut second).poll(context) {
                Poll::Ready(Ok(connection)) => {
                    return Poll::Ready(Ok(Winner::Second(connection, failed)));
                }
                Poll::Ready(Err(_)) => other_failed = true,
                Poll::Pending => {}
            }
        }
        match failed {
            Some(failure) if other_failed => Poll::Ready(Err(failure)),
            _ => Poll::Pending,
        }
    })
    .await
}

#[derive(Clone, Copy)]
struct Request<'a> {
    head: &'a [u8],
    body: &'a [u8],
    service: &'a Service,
}

/// One of the two, with what it reads.
struct Attempt {
    buffer: Buffer,
    response: ResponseHead,
    timer: Timer,
}

impl Attempt {
    fn new(reactor: &Reactor) -> Self {
        let (buffer, timer) = (reactor.buffers.buffer_of(MEDIUM), reactor.timers.timer());
        Self { buffer, response: ResponseHead::default(), timer }
    }

    async fn run(&mut self, stream: &Stream, request: Request<'_>) -> Result<(), Failure> {
        let Request { head, body, service } = request;
        let wait = Wait::AtMost(service.timeouts.idle);
        match write(stream, head, body, &self.timer, wait).await {
            // It may have answered before it stopped listening.
            Ok(()) | Err(IoError::Closed) => {}
            Err(IoError::Unsent) => return Err(Failure::Unsent),
            Err(IoError::TimedOut) => return Err(Failure::TimedOut),
        }
        self.timer.arm(service.head_timeout());
        let sent = Cell::new(true);
        let mut incoming = Incoming {
            source: stream,
            buffer: &mut self.buffer,
            response: &mut self.response,
            timer: &self.timer,
            upgrades: false,
            timeout: service.head_timeout(),
            sent: &sent,
        };
        read_final_head(&mut incoming, None).await
    }

    async fn elsewhere(
        &mut self,
        reactor: &Reactor,
        attempts: &mut Attempts<'_>,
        request: Request<'_>,
    ) -> Result<BackendConnection, Failure> {
        let connection = attempts.connect(reactor).await?;
        let backend = connection.open.backend();
        backend.count_request();
        connection.watch.restart();
        match self.run(connection.stream(), request).await {
            Ok(()) => Ok(connection),
            Err(failure) => {
                attempts.tell_failure(reactor, backend, failure);
                Err(failure)
            }
        }
    }
}
