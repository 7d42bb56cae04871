//! One request and its answer: the way of a request on one screen.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use crate::answer::{Answered, receive};
use crate::attempts::{Attempts, BackendConnection};
use crate::client::{BodyPlace, Client, Next};
use crate::forwarded::{self, Delivery};
use crate::io::{IoError, Wait, write};
use crate::refusal::Refusal;
use crate::snapshot::Service;
use crate::transfer::{Transfer, TransferError};
use crate::tunnel::{self, End, Side};

/// Why an exchange has no answer from a backend, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing of an answer was sent: we answer ourselves.
    Refused(Refusal),
    /// The answer had begun, or the client is gone: nothing can be said any more.
    Cut,
    /// The backend closed the connection before it took a byte of the request.
    Unsent,
    /// The backend closed the connection before it sent a byte of an answer.
    Died,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Serves the request whose head was read; tells what becomes of the connection.
pub(crate) async fn serve(client: &mut Client) -> Next {
    let began = Instant::now();
    client.reactor.counters.requests.add(1);
    let next = match forward(client).await {
        Ok(next) => next,
        Err(Failure::Refused(refusal)) => client.answer(refusal).await,
        Err(Failure::Unsent | Failure::Died) => client.answer(Refusal::BackendClosed).await,
        Err(Failure::Cut) => {
            client.reactor.counters.cut.add(1);
            Next::Abort
        }
    };
    client.reactor.counters.took(began.elapsed());
    next
}

async fn forward(client: &mut Client) -> Result<Next, Failure> {
    client.begin_exchange()?;
    let reactor = Rc::clone(&client.reactor);
    let snapshot = reactor.snapshot();
    let service = snapshot.service(&client.request, client.head())?;
    client.append_request(service);
    let mut attempts = Attempts::new(service);
    loop {
        let backend = attempts.connect(&reactor).await?;
        backend.open.backend().count_request();
        let answered = match client.body {
            BodyPlace::Whole(size) => in_turn(client, service, &backend, size).await,
            BodyPlace::Streaming => both_ways(client, service, &backend).await,
        };
        match answered {
            Ok(answered) if answered.switched => {
                return Ok(switch(client, service, backend, answered).await);
            }
            Ok(answered) => return Ok(finish(client, backend, answered)),
            Err(failure) => {
                backend.open.backend().count_failure();
                let safe = match failure {
                    Failure::Unsent => true,
                    Failure::Died => client.is_repeatable(),
                    Failure::Refused(_) | Failure::Cut => false,
                };
                if !safe || !attempts.may_replace(backend.open.backend()) {
                    return Err(failure);
                }
                reactor.counters.retries.add(1);
            }
        }
    }
}

/// The whole request is at hand: send it, then wait for the answer.
async fn in_turn(
    client: &mut Client,
    service: &Service,
    backend: &BackendConnection,
    body_size: usize,
) -> Result<Answered, Failure> {
    let body = client.request.length..client.request.length + body_size;
    let body = client.input.data().get(body).unwrap_or_default();
    let wait = Wait::AtMost(service.timeouts.idle);
    match write(&backend.stream, &client.to_backend, body, &client.timer, wait).await {
        Ok(()) => {}
        Err(IoError::Unsent) => return Err(Failure::Unsent),
        // It may have answered before it stopped listening.
        Err(IoError::Closed) => {}
        Err(IoError::TimedOut) => return Err(Refusal::ResponseTimeout.into()),
    }
    client.timer.arm(service.timeouts.response);
    let sent = Cell::new(true);
    let (_, answer) = client.halves(&sent);
    receive(answer, &backend.stream, service).await
}

/// The body of the request is still arriving: an answer may come before its end.
async fn both_ways(
    client: &mut Client,
    service: &Service,
    backend: &BackendConnection,
) -> Result<Answered, Failure> {
    let timeouts = client.policy.timeouts;
    let upload_timer = client.reactor.timers.timer();
    let (body, size_max) = (client.request_body(), client.policy.limits.body_size);
    let sent = Cell::new(false);
    client.timer.disarm();
    let (request, answer) = client.halves(&sent);
    let response_timer = answer.timer;
    let began = answer.began;
    let upload = Transfer {
        body,
        delivery: Delivery::Verbatim,
        source: request.source,
        buffer: request.buffer,
        sink: &backend.stream,
        head: request.head,
        timer: &upload_timer,
        read_timeout: timeouts.body,
        write_timeout: service.timeouts.idle,
        size_max,
    };
    let mut upload = pin!(upload.run());
    let mut download = pin!(receive(answer, &backend.stream, service));
    let mut uploading = true;
    let mut answered = poll_fn(|context| {
        if uploading && let Poll::Ready(uploaded) = upload.as_mut().poll(context) {
            uploading = false;
            sent.set(uploaded.is_ok());
            if let Some(failure) = uploaded.err().and_then(|error| end_upload(error, began.get())) {
                return Poll::Ready(Err(failure));
            }
            response_timer.arm(service.timeouts.response);
        }
        download.as_mut().poll(context)
    })
    .await?;
    // What is left of the request cannot be told from the next one.
    answered.backend_reusable &= sent.get();
    answered.request_unread = !sent.get();
    Ok(answered)
}

/// Whether an upload that failed ends the exchange. A backend that stops listening may answer.
fn end_upload(error: TransferError, answer_began: bool) -> Option<Failure> {
    let refusal = match error {
        TransferError::Sink(IoError::Unsent) => return Some(Failure::Unsent),
        TransferError::Sink(_) => return None,
        TransferError::Source(IoError::TimedOut) => Refusal::BodyTimeout,
        TransferError::Source(_) => return Some(Failure::Cut),
        TransferError::Malformed(how) => Refusal::BadRequest(how),
        TransferError::TooLarge => Refusal::BodyTooLarge,
    };
    Some(if answer_began { Failure::Cut } else { Failure::Refused(refusal) })
}

fn finish(client: &mut Client, backend: BackendConnection, answered: Answered) -> Next {
    if answered.backend_reusable {
        client.reactor.keep(backend.key, backend.stream);
    }
    client.reactor.counters.responded(answered.status);
    client.consume_request();
    match (answered.request_unread, answered.keep_alive) {
        (true, _) => Next::Linger,
        (false, true) => Next::Keep,
        (false, false) => Next::Close,
    }
}

/// The connection is another protocol's from here on: bytes, until both sides have ended.
async fn switch(
    client: &mut Client,
    service: &Service,
    backend: BackendConnection,
    answered: Answered,
) -> Next {
    client.reactor.counters.responded(answered.status);
    client.consume_request();
    let from_client = Side { stream: &client.stream, read: &mut client.input };
    let from_backend = Side { stream: &backend.stream, read: &mut client.from_backend };
    let idle = service.timeouts.idle;
    match tunnel::run(from_client, from_backend, &client.timer, idle).await {
        End::Finished | End::Idle => {
            backend.stream.close();
            Next::Close
        }
        End::Broken => {
            backend.stream.reset();
            Next::Abort
        }
    }
}

/// Prepares the refusal of a request: also used before there is an exchange.
pub(crate) fn append_refusal(client: &mut Client, refusal: Refusal, keep_alive: bool) {
    let asker = forwarded::Asker {
        request_id: &client.request_id,
        version: client.request.version,
        is_head: client.request.is_head,
        keep_alive,
    };
    forwarded::append_refusal(refusal, asker, &mut client.to_client);
}
