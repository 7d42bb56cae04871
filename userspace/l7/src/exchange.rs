//! One request and its answer: the way of a request on one screen.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use weir_balance::RequestSlot;
use weir_model::{Action, HeaderEdits, Route};

use crate::answer::{Answered, Passing, pass_on, read_final_head};
use crate::attempts::{Attempts, BackendConnection, wait_for};
use crate::client::{Client, Next};
use crate::forwarded::Delivery;
use crate::hedge;
use crate::io::{IoError, Wait, within, write};
use crate::mirror;
use crate::outlet::{self, Half};
use crate::pool::Kept;
use crate::refusal::Refusal;
use crate::request_body::BodyPlace;
use crate::snapshot::Service;
use crate::transfer::{Transfer, TransferError};
use crate::wanted;

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
    /// The backend did not answer in time.
    TimedOut,
    /// The backend answered with this status, which calls for another attempt.
    Status(u16),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Serves the request whose head was read; tells what becomes of the connection.
pub(crate) async fn serve(client: &mut Client) -> Next {
    let began = Instant::now();
    if let Some(counters) = client.counters() {
        counters.requests.add(1);
    }
    let next = match forward(client).await {
        Ok(next) => next,
        Err(Failure::Refused(refusal)) => client.answer(refusal).await,
        Err(Failure::Unsent | Failure::Died | Failure::Status(_)) => {
            client.answer(Refusal::BackendClosed).await
        }
        Err(Failure::TimedOut) => client.answer(Refusal::ResponseTimeout).await,
        Err(Failure::Cut) => {
            if let Some(counters) = client.counters() {
                counters.cut.add(1);
            }
            Next::Abort
        }
    };
    if let Some(counters) = client.counters() {
        counters.took(began.elapsed());
    }
    next
}

async fn forward(client: &mut Client) -> Result<Next, Failure> {
    client.begin_exchange()?;
    let reactor = Rc::clone(&client.reactor);
    let snapshot = reactor.snapshot();
    let routed = snapshot.route(&client.asked())?;
    let service = match (&routed.route.action, client.mirrors) {
        (_, Some(service)) => snapshot.service_at(service).ok_or(Refusal::NoRoute)?,
        (Action::Forward(_), None) => {
            snapshot.service(routed.route, &client.asked(), reactor.draw())?
        }
        (Action::Redirect(redirect), None) => {
            return Ok(client.redirect(redirect, edits(routed.route)).await);
        }
        (Action::Respond(respond), None) => {
            return Ok(client.respond(respond, edits(routed.route)).await);
        }
    };
    client.gather(service).await?;
    if client.mirrors.is_none() {
        mirror::copy(client, &snapshot, routed.route);
    }
    let wanted = wanted::of(service, &client.asked());
    let way = Way { service, passing: passing(client, routed.route) };
    client.append_request(service, routed);
    let mut attempts = Attempts::new(service, wanted, &client.side);
    let sent = {
        let mut sent = pin!(send(client, way, &mut attempts));
        match service.timeouts.request {
            None => Ok(sent.await),
            Some(limit) => {
                let deadline = reactor.timers.timer();
                deadline.arm(limit);
                within(&deadline, sent.as_mut()).await
            }
        }
    };
    let too_late = if client.answer_began.get() { Failure::Cut } else { Failure::TimedOut };
    let sent = sent.unwrap_or(Err(too_late))?;
    if sent.answered.switched {
        return Ok(Box::pin(switch(client, service, sent)).await);
    }
    Ok(finish(client, service, sent))
}

/// To whom a request goes, and what becomes of the answer on its way back.
#[derive(Clone, Copy)]
struct Way<'a> {
    service: &'a Service,
    passing: Passing<'a>,
}

/// A request that was answered, and what it holds until nothing of it is left.
struct Sent {
    backend: BackendConnection,
    answered: Answered,
    place: RequestSlot,
}

/// Sends the request to one backend after another, as long as that is worth trying.
async fn send(
    client: &mut Client,
    way: Way<'_>,
    attempts: &mut Attempts<'_>,
) -> Result<Sent, Failure> {
    let service = way.service;
    let reactor = Rc::clone(&client.reactor);
    service.budget.on_request(reactor.now());
    let place = match service.upstream.try_request() {
        Some(place) => place,
        None => Box::pin(wait_for(&reactor, service, || service.upstream.try_request())).await?,
    };
    loop {
        let mut backend = attempts.connect(&reactor).await?;
        backend.open.backend().count_request();
        backend.watch.restart();
        let answered = match client.body {
            BodyPlace::Whole(size) => in_turn(client, way, attempts, &mut backend, size).await,
            BodyPlace::Streaming => Box::pin(both_ways(client, way, attempts, &backend)).await,
        };
        match answered {
            Ok(answered) => {
                attempts.tell_answer(&reactor, &backend, answered.status);
                return Ok(Sent { backend, answered, place });
            }
            Err(failure) => {
                let own = backend.open.backend();
                attempts.tell_failure(&reactor, own, failure);
                let is_repeatable = client.is_repeatable();
                if !attempts.may_retry(&reactor, failure, is_repeatable, own) {
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
    Way { service, passing }: Way<'_>,
    attempts: &mut Attempts<'_>,
    backend: &mut BackendConnection,
    body_size: usize,
) -> Result<Answered, Failure> {
    let is_repeatable = client.is_repeatable();
    let sent = Cell::new(true);
    // Another protocol cannot be spoken with two at a time.
    let is_hedged = is_repeatable && client.request.upgrade.is_none();
    if let Some(after) = service.hedge.filter(|_| is_hedged) {
        Box::pin(hedge::send(client, service, attempts, backend, after)).await?;
    } else {
        let body = client.request.length..client.request.length + body_size;
        let body = client.input.data().get(body).unwrap_or_default();
        let wait = Wait::AtMost(service.timeouts.idle);
        match write(backend.stream(), &client.to_backend, body, &client.timer, wait).await {
            Ok(()) if is_repeatable => {}
            Ok(()) => client.forget_body(),
            Err(IoError::Unsent) => return Err(Failure::Unsent),
            // It may have answered before it stopped listening.
            Err(IoError::Closed) => {}
            Err(IoError::TimedOut) => return Err(Failure::TimedOut),
        }
        client.timer.arm(service.head_timeout());
        let (_, mut incoming, mut side) = client.sides(backend.stream(), service, &sent);
        incoming.buffer.consume(usize::MAX / 2);
        read_final_head(&mut incoming, Some(&mut side)).await?;
    }
    backend.watch.stop();
    let status = client.response.status;
    if attempts.retries_status(&client.reactor, status, is_repeatable) {
        return Err(Failure::Status(status));
    }
    let cookie = wanted::cookie(service, attempts.wanted(), backend.open.backend());
    let (_, mut incoming, mut side) = client.sides(backend.stream(), service, &sent);
    side.passing = Passing { cookie: cookie.as_deref(), ..passing };
    pass_on(&mut incoming, &mut side, service).await
}

/// The body of the request is still arriving: an answer may come before its end.
async fn both_ways(
    client: &mut Client,
    Way { service, passing }: Way<'_>,
    attempts: &Attempts<'_>,
    backend: &BackendConnection,
) -> Result<Answered, Failure> {
    let timeouts = client.serving.policy.timeouts;
    let upload_timer = client.reactor.timers.timer();
    let (body, size_max) = (client.request_body(), client.serving.policy.limits.body_size);
    let sent = Cell::new(false);
    client.timer.disarm();
    let cookie = wanted::cookie(service, attempts.wanted(), backend.open.backend());
    let (request, mut incoming, mut side) = client.sides(backend.stream(), service, &sent);
    incoming.buffer.consume(usize::MAX / 2);
    side.passing = Passing { cookie: cookie.as_deref(), ..passing };
    let response_timer = incoming.timer;
    let began = side.began;
    let mut upload = Transfer {
        body,
        delivery: Delivery::Verbatim,
        source: request.source,
        buffer: request.buffer,
        sink: backend.stream(),
        head: request.head,
        timer: &upload_timer,
        read_timeout: timeouts.body,
        write_timeout: service.timeouts.idle,
        size_max,
        encoder: None,
    };
    let mut upload = pin!(upload.run());
    let mut download = pin!(async {
        read_final_head(&mut incoming, Some(&mut side)).await?;
        backend.watch.stop();
        pass_on(&mut incoming, &mut side, service).await
    });
    let mut uploading = true;
    let mut answered = poll_fn(|context| {
        if uploading && let Poll::Ready(uploaded) = upload.as_mut().poll(context) {
            uploading = false;
            sent.set(uploaded.is_ok());
            if let Some(failure) = uploaded.err().and_then(|error| end_upload(error, began.get())) {
                return Poll::Ready(Err(failure));
            }
            // Once the answer has begun, the timer is its body's.
            if !began.get() {
                response_timer.arm(service.timeouts.response);
                backend.watch.restart();
            }
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

fn finish(client: &mut Client, service: &Service, sent: Sent) -> Next {
    let Sent { backend, answered, place: _place } = sent;
    if let Some(key) = backend.key.filter(|_| answered.backend_reusable) {
        client.reactor.keep(key, backend.kept, &service.upstream);
    }
    if client.reactor.waiting.get() > 0 {
        client.reactor.room.notify_one();
    }
    if let Some(counters) = client.counters() {
        counters.responded(answered.status);
    }
    client.consume_request();
    match (answered.request_unread, answered.keep_alive) {
        (true, _) => Next::Linger,
        (false, true) => Next::Keep,
        (false, false) => Next::Close,
    }
}

/// The connection is another protocol's from here on: bytes, until both sides have ended.
async fn switch(client: &mut Client, service: &Service, sent: Sent) -> Next {
    let Sent { backend, answered, place } = sent;
    client.reactor.counters.responded(answered.status);
    client.consume_request();
    let (stream, reactor) = (client.take_stream(), Rc::clone(&client.reactor));
    let from_client = Half { stream, read: client.take_input() };
    let read = std::mem::replace(&mut client.from_backend, reactor.buffers.buffer());
    let Kept { stream, _slot } = backend.kept;
    let from_backend = Half { stream, read };
    let idle = service.timeouts.idle;
    outlet::run(&reactor.outlet, from_client, from_backend, &client.timer, idle).await;
    drop((_slot, backend.open, place));
    Next::Close
}

/// What the route does to the answers to this request.
fn passing<'a>(client: &Client, route: &'a Route) -> Passing<'a> {
    let negotiate = |compress| {
        let fields = &client.request.fields;
        (compress, crate::compress::negotiate(compress, fields, client.head()))
    };
    let compress = route.compress.as_ref().map(negotiate);
    Passing { edits: edits(route), cookie: None, compress }
}

fn edits(route: &Route) -> Option<&HeaderEdits> {
    Some(&route.response_headers).filter(|edits| !edits.is_nothing())
}
