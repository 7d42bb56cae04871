//! A backend's answer on its way to the client.

use std::cell::Cell;

use crate::buffer::Buffer;
use crate::exchange::Failure;
use crate::forwarded::{Delivery, Ending, append_response};
use crate::http1::Version;
use crate::http1::body::Body;
use crate::http1::response::ResponseHead;
use crate::http1::scan::HeadScan;
use crate::io::{IoError, Wait, read, write};
use crate::refusal::Refusal;
use crate::snapshot::Service;
use crate::stream::Stream;
use crate::timers::Timer;
use crate::transfer::Transfer;

/// A head of an answer may have this many bytes.
const HEAD_SIZE_MAX: usize = 64 * 1024;
/// Answers before the answer (1xx) that are passed on.
const INTERIM_MAX: usize = 16;

/// The client's side of an answer.
pub(crate) struct AnswerSide<'a> {
    pub(crate) sink: &'a Stream,
    /// What was read from the backend.
    pub(crate) buffer: &'a mut Buffer,
    pub(crate) response: &'a mut ResponseHead,
    /// What is to be written to the client.
    pub(crate) out: &'a mut Vec<u8>,
    /// Armed, once the request was sent, with how long the head may take.
    pub(crate) timer: &'a Timer,
    pub(crate) version: Version,
    pub(crate) to_head_request: bool,
    pub(crate) write_timeout: std::time::Duration,
    /// Whether the client's connection could serve another request.
    pub(crate) keep_alive: bool,
    /// The request asks for another protocol.
    pub(crate) upgrades: bool,
    /// Set when the first byte of the answer may have been sent.
    pub(crate) began: &'a Cell<bool>,
    /// Whether all of the request was sent.
    pub(crate) sent: &'a Cell<bool>,
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

/// Reads the answer from `source` and passes it on to the client.
pub(crate) async fn receive(
    mut side: AnswerSide<'_>,
    source: &Stream,
    service: &Service,
) -> Result<Answered, Failure> {
    read_final_head(&mut side, source, service).await?;
    let bytes = side.buffer.data();
    let head = bytes.get(..side.response.length).unwrap_or_default();
    let body = side
        .response
        .body(head, side.to_head_request)
        .map_err(|_| Failure::Refused(Refusal::BadResponse))?;
    let ending = ending(&body, side.version, side.keep_alive);
    let ends_at_close = matches!(body, Body::UntilClose);
    append_response(side.response, head, side.version, ending, side.out);
    side.buffer.consume(side.response.length);
    side.began.set(true);
    let transfer = Transfer {
        body,
        delivery: ending.delivery,
        source,
        buffer: side.buffer,
        sink: side.sink,
        head: side.out,
        timer: side.timer,
        read_timeout: service.timeouts.idle,
        write_timeout: side.write_timeout,
        size_max: None,
    };
    transfer.run().await.map_err(|_| Failure::Cut)?;
    let switched = side.response.status == 101;
    Ok(Answered {
        switched,
        status: side.response.status,
        keep_alive: ending.keep_alive,
        // Bytes behind the answer were asked for by nobody.
        backend_reusable: side.response.keep_alive
            && !ends_at_close
            && !switched
            && side.buffer.is_empty(),
        request_unread: false,
    })
}

fn ending(body: &Body, version: Version, keep_alive: bool) -> Ending {
    let (delivery, keep_alive) = match (body, version) {
        (Body::Chunked(_), Version::Http10) => (Delivery::Unchunk, false),
        (Body::UntilClose, Version::Http10) => (Delivery::Verbatim, false),
        (Body::UntilClose, Version::Http11) => (Delivery::Chunk, keep_alive),
        _ => (Delivery::Verbatim, keep_alive),
    };
    Ending { delivery, keep_alive }
}

/// Reads heads until one is final, passing those before it on.
async fn read_final_head(
    side: &mut AnswerSide<'_>,
    source: &Stream,
    service: &Service,
) -> Result<(), Failure> {
    for _ in 0..=INTERIM_MAX {
        let length = read_head(side, source).await?;
        let head = side.buffer.data().get(..length).unwrap_or_default();
        side.response.parse(head).map_err(|_| Failure::Refused(Refusal::BadResponse))?;
        if !side.response.is_interim() {
            return Ok(());
        }
        if side.response.status == 101 {
            // Only what was asked for can be agreed to.
            let is_asked = side.upgrades && side.version == Version::Http11;
            return if is_asked { Ok(()) } else { Err(Refusal::BadResponse.into()) };
        }
        pass_interim(side, service).await?;
    }
    Err(Refusal::BadResponse.into())
}

/// Reads until the head of an answer is complete at the start of the buffer.
async fn read_head(side: &mut AnswerSide<'_>, source: &Stream) -> Result<usize, Failure> {
    let mut scan = HeadScan::default();
    loop {
        match scan.end(side.buffer.data()) {
            Ok(Some(length)) => return Ok(length),
            Ok(None) => {}
            Err(_) => return Err(Refusal::BadResponse.into()),
        }
        let held = side.buffer.data().len();
        if held >= HEAD_SIZE_MAX {
            return Err(Refusal::BadResponse.into());
        }
        if held > 0 && held == side.buffer.capacity() {
            side.buffer.grow(HEAD_SIZE_MAX);
        }
        match read(source, side.buffer.space(), side.timer, Wait::Armed).await {
            Ok(0) | Err(IoError::Closed | IoError::Unsent) if held == 0 => {
                return Err(Failure::Died);
            }
            Ok(0) | Err(IoError::Closed | IoError::Unsent) => {
                return Err(Refusal::BadResponse.into());
            }
            Ok(count) => side.buffer.filled(count),
            Err(IoError::TimedOut) => return Err(Refusal::ResponseTimeout.into()),
        }
    }
}

async fn pass_interim(side: &mut AnswerSide<'_>, service: &Service) -> Result<(), Failure> {
    if side.version == Version::Http11 {
        let head = side.buffer.data().get(..side.response.length).unwrap_or_default();
        let ending = Ending { delivery: Delivery::Verbatim, keep_alive: true };
        append_response(side.response, head, side.version, ending, side.out);
        let wait = Wait::AtMost(side.write_timeout);
        let written = write(side.sink, side.out, &[], side.timer, wait).await;
        side.out.clear();
        written.map_err(|_| Failure::Cut)?;
    }
    side.buffer.consume(side.response.length);
    if side.sent.get() {
        side.timer.arm(service.timeouts.response);
    } else {
        side.timer.disarm();
    }
    Ok(())
}
