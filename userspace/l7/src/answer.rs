//! A backend's answer on its way to the client.

use std::cell::Cell;
use std::time::Duration;

use weir_model::{Compress, Encoding, HeaderEdits};

use crate::buffer::Buffer;
use crate::compress::{self, Encoder};
use crate::exchange::Failure;
use crate::forwarded::{Delivery, Dressing, Ending, append_response};
use crate::http1::Version;
use crate::http1::body::Body;
use crate::http1::response::ResponseHead;
use crate::http1::scan::HeadScan;
use crate::io::{IoError, Wait, fill, write};
use crate::refusal::Refusal;
use crate::request_body::Chunks;
use crate::snapshot::Service;
use crate::stream::Stream;
use crate::timers::Timer;
use crate::transfer::Transfer;

/// A head of an answer may have this many bytes.
const HEAD_SIZE_MAX: usize = 64 * 1024;
/// Answers before the answer (1xx) that are passed on.
const INTERIM_MAX: usize = 16;

/// What is read of an answer before it is passed on.
pub(crate) struct Incoming<'a> {
    pub(crate) source: &'a Stream,
    /// What was read from the backend.
    pub(crate) buffer: &'a mut Buffer,
    pub(crate) response: &'a mut ResponseHead,
    /// Armed, once the request was sent, with how long the head may take.
    pub(crate) timer: &'a Timer,
    /// The request asks for another protocol.
    pub(crate) upgrades: bool,
    /// How long a head may take after the one before it.
    pub(crate) timeout: Duration,
    /// Whether all of the request was sent.
    pub(crate) sent: &'a Cell<bool>,
}

/// The client's side of an answer.
pub(crate) struct AnswerSide<'a> {
    pub(crate) sink: &'a Stream,
    /// What is to be written to the client.
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) version: Version,
    pub(crate) to_head_request: bool,
    pub(crate) write_timeout: Duration,
    /// Whether the client's connection could serve another request.
    pub(crate) keep_alive: bool,
    /// Set when the first byte of the answer may have been sent.
    pub(crate) began: &'a Cell<bool>,
    pub(crate) passing: Passing<'a>,
}

/// What the route does to an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passing<'a> {
    pub(crate) edits: Option<&'a HeaderEdits>,
    /// A `set-cookie` of ours.
    pub(crate) cookie: Option<&'a str>,
    /// What is compressed, and with what, as far as it is for the client to say.
    pub(crate) compress: Option<(&'a Compress, Option<Encoding>)>,
}

/// An answer that was passed on in whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// The client's connection may serve another request.
    pub(crate) keep_alive: bool,
    /// The backend's connection may serve another request.
    pub(crate) backend_reusable: bool,
    /// The answer came before the end of the request's body.
    pub(crate) request_unread: bool,
    /// The backend has agreed to another protocol: what follows is no HTTP.
    pub(crate) switched: bool,
}

/// Reads heads until one is final; those before it go on to the client where there is one yet.
pub(crate) async fn read_final_head(
    incoming: &mut Incoming<'_>,
    mut client: Option<&mut AnswerSide<'_>>,
) -> Result<(), Failure> {
    for _ in 0..=INTERIM_MAX {
        let length = read_head(incoming).await?;
        let head = incoming.buffer.data().get(..length).unwrap_or_default();
        incoming.response.parse(head).map_err(|_| Failure::Refused(Refusal::BadResponse))?;
        if !incoming.response.is_interim() {
            return Ok(());
        }
        if incoming.response.status == 101 {
            // Only what was asked for can be agreed to.
            let agreed = incoming.upgrades;
            return if agreed { Ok(()) } else { Err(Refusal::BadResponse.into()) };
        }
        if let Some(client) = &mut client {
            Box::pin(pass_interim(incoming, client)).await?;
        }
        incoming.buffer.consume(incoming.response.length);
        if incoming.sent.get() {
            incoming.timer.arm(incoming.timeout);
        } else {
            incoming.timer.disarm();
        }
    }
    Err(Refusal::BadResponse.into())
}

/// Passes on the answer whose head was read.
pub(crate) async fn pass_on(
    incoming: &mut Incoming<'_>,
    side: &mut AnswerSide<'_>,
    service: &Service,
) -> Result<Answered, Failure> {
    let head = incoming.buffer.data().get(..incoming.response.length).unwrap_or_default();
    let body = incoming
        .response
        .body(head, side.to_head_request)
        .map_err(|_| Failure::Refused(Refusal::BadResponse))?;
    let (encoding, varies) = encoding(side, incoming.response, head, &body);
    let encoder = encoding.and_then(|encoding| Encoder::new(encoding).ok());
    let encoding = encoding.filter(|_| encoder.is_some());
    // It will end before the request does, of which what is left cannot be told from the next one.
    let is_early = !incoming.sent.get() && is_whole(&body, incoming);
    let keep_alive = side.keep_alive && !is_early;
    let ending = ending(&body, side.version, keep_alive, encoding.is_some());
    let ends_at_close = matches!(body, Body::UntilClose);
    let Passing { edits, cookie, .. } = side.passing;
    let dressing = Dressing { edits, cookie, encoding, varies };
    append_response((&*incoming.response, head), side.version, ending, dressing, side.out);
    incoming.buffer.consume(incoming.response.length);
    side.began.set(true);
    let mut transfer = Transfer {
        body,
        delivery: ending.delivery,
        source: incoming.source,
        buffer: &mut *incoming.buffer,
        sink: side.sink,
        head: &mut *side.out,
        timer: incoming.timer,
        read_timeout: service.timeouts.idle,
        write_timeout: side.write_timeout,
        size_max: None,
        encoder: encoder.map(Box::new),
    };
    transfer.run().await.map_err(|_| Failure::Cut)?;
    let ResponseHead { status, keep_alive, .. } = *incoming.response;
    let switched = status == 101;
    Ok(Answered {
        switched,
        status,
        keep_alive: ending.keep_alive,
        // Bytes behind the answer were asked for by nobody.
        backend_reusable: keep_alive && !ends_at_close && !switched && incoming.buffer.is_empty(),
        request_unread: false,
    })
}

/// Whether all of the answer was read already.
fn is_whole(body: &Body, incoming: &Incoming<'_>) -> bool {
    let behind = incoming.buffer.data().get(incoming.response.length..).unwrap_or_default();
    match body {
        Body::Length(size) => *size <= behind.len() as u64,
        Body::Chunked(_) => {
            matches!(Chunks::default().look(behind, u64::MAX), Ok(Some(_)))
        }
        Body::UntilClose => false,
    }
}

/// What the answer is compressed with, and whether that depends on the client.
fn encoding(
    side: &AnswerSide<'_>,
    response: &ResponseHead,
    head: &[u8],
    body: &Body,
) -> (Option<Encoding>, bool) {
    let Some((compress, accepted)) = side.passing.compress else { return (None, false) };
    let suits = compress::suits(compress, response, head, body);
    (accepted.filter(|_| suits && !side.to_head_request), suits)
}

fn ending(body: &Body, version: Version, keep_alive: bool, encodes: bool) -> Ending {
    let (delivery, keep_alive) = match (body, version) {
        (_, Version::Http11) if encodes => (Delivery::EncodeChunked, keep_alive),
        (_, Version::Http10) if encodes => (Delivery::EncodePlain, false),
        (Body::Chunked(_), Version::Http10) => (Delivery::Unchunk, false),
        (Body::UntilClose, Version::Http10) => (Delivery::Verbatim, false),
        (Body::UntilClose, Version::Http11) => (Delivery::Chunk, keep_alive),
        _ => (Delivery::Verbatim, keep_alive),
    };
    Ending { delivery, keep_alive }
}

/// Reads until the head of an answer is complete at the start of the buffer.
async fn read_head(incoming: &mut Incoming<'_>) -> Result<usize, Failure> {
    let Incoming { source, buffer, timer, .. } = incoming;
    let mut scan = HeadScan::default();
    loop {
        match scan.end(buffer.data()) {
            Ok(Some(length)) => return Ok(length),
            Ok(None) => {}
            Err(_) => return Err(Refusal::BadResponse.into()),
        }
        let held = buffer.data().len();
        if held >= HEAD_SIZE_MAX {
            return Err(Refusal::BadResponse.into());
        }
        if held > 0 && held == buffer.capacity() {
            buffer.grow(HEAD_SIZE_MAX);
        }
        match fill(source, buffer, timer, Wait::Armed).await {
            Ok(0) | Err(IoError::Closed | IoError::Unsent) if held == 0 => {
                return Err(Failure::Died);
            }
            Ok(0) | Err(IoError::Closed | IoError::Unsent) => {
                return Err(Refusal::BadResponse.into());
            }
            Ok(_) => {}
            Err(IoError::TimedOut) => return Err(Failure::TimedOut),
        }
    }
}

async fn pass_interim(
    incoming: &mut Incoming<'_>,
    side: &mut AnswerSide<'_>,
) -> Result<(), Failure> {
    if side.version != Version::Http11 {
        return Ok(());
    }
    let response = &*incoming.response;
    let head = incoming.buffer.data().get(..response.length).unwrap_or_default();
    let ending = Ending { delivery: Delivery::Verbatim, keep_alive: true };
    append_response((response, head), side.version, ending, Dressing::default(), side.out);
    let wait = Wait::AtMost(side.write_timeout);
    let written = write(side.sink, side.out, &[], incoming.timer, wait).await;
    side.out.clear();
    written.map_err(|_| Failure::Cut)
}
