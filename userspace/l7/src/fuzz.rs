//! What must hold of the parsers whatever they are given; for `tests/fuzz` and `tests/it/fuzzing.rs`.
//!
//! Each function panics where it does not hold.

use std::net::{Ipv4Addr, SocketAddr};

use weir_model::Limits;

use crate::forwarded::{
    ClientSide, Delivery, Dressing, Ending, Outgoing, Scheme, append_request, append_response,
    listener_lines,
};
use crate::http1::chunked::{Chunked, Malformed, Piece};
use crate::http1::field::{Fields, Kind};
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::http1::scan::HeadScan;
use crate::http1::{Span, Version};

/// Bytes up to which an input is also given byte by byte.
const SLOW_MAX: usize = 4 * 1024;
/// What a backend gets besides what goes on: `host`, `x-forwarded-for`, `-proto`, `-port`, `-host` and
/// `x-request-id`.
const FIELDS_TO_BACKEND: usize = 6;
/// And of a request that asks for another protocol: `connection` and `upgrade`.
const FIELDS_OF_UPGRADE: usize = 2;
/// What a client gets besides what goes on: `via` and `connection`.
const FIELDS_TO_CLIENT: usize = 2;

/// A request's head that is accepted is read alike by whoever gets it from us.
pub fn request_head(bytes: &[u8]) {
    let Some(head) = first_head(bytes) else { return };
    let mut request = RequestHead::default();
    if request.parse(head, &Limits::default()).is_err() {
        return;
    }
    assert_eq!(request.length, head.len(), "a head is used in whole");
    check_fields(&request.fields, head);
    for span in [Some(request.method), Some(request.target), request.host].into_iter().flatten() {
        check_span(span, head);
    }
    assert!(request.target.get(head).starts_with(request.path.get(head)), "a path of its target");
    assert!(request.host.is_some() || request.version == Version::Http10, "a host");

    let mut out = Vec::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let client = ClientSide::new(address, address, Scheme::Http, listener_lines(Scheme::Http, 1));
    let outgoing = Outgoing {
        request: &request,
        head,
        client: &client,
        id: b"id",
        to_http2: false,
        routed: None,
    };
    append_request(outgoing, &mut out);
    let mut again = RequestHead::default();
    let limits = Limits { headers: Limits::HEADERS_MAX, ..Limits::default() };
    assert_eq!(first_head(&out), Some(out.as_slice()), "one head becomes one head");
    let read = again.parse(&out, &limits);
    assert!(read.is_ok(), "{read:?}: {} of {}", out.escape_ascii(), head.escape_ascii());
    assert_eq!(again.method.get(&out), request.method.get(head));
    let target = request.target.get(head);
    let slash: &[u8] = if matches!(target.first(), Some(b'/' | b'*')) { b"" } else { b"/" };
    assert_eq!(again.target.get(&out), [slash, target].concat(), "the same target");
    let host = request.host.map_or(&b"localhost"[..], |host| host.get(head));
    assert_eq!(again.host.map(|host| host.get(&out)), Some(host), "the same host");
    assert_eq!(again.body, request.body, "the same body");
    assert_eq!(again.expects_continue, request.expects_continue);
    let (sent, received) = (passed(&request.fields, head), passed(&again.fields, &out));
    assert_eq!(received.iter().filter(|field| sent.contains(field)).count(), sent.len());
    let upgrade = if request.upgrade.is_some() { FIELDS_OF_UPGRADE } else { 0 };
    let count = sent.len() + FIELDS_TO_BACKEND + upgrade;
    assert_eq!(again.fields.iter().count(), count, "no other field");
}

/// Names and values of what goes on to a backend.
fn passed<'a>(fields: &'a Fields, head: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    let goes_on = |kind| {
        use Kind::{ContentLength, EndToEnd, Expect, TransferEncoding, Via};
        matches!(kind, EndToEnd | ContentLength | TransferEncoding | Expect | Via)
    };
    let fields = fields.iter().filter(|field| goes_on(field.kind));
    fields.map(|field| (field.name.get(head), field.value.get(head))).collect()
}

/// An answer's head that is accepted is read alike by whoever gets it from us.
pub fn response_head(bytes: &[u8]) {
    let Some(head) = first_head(bytes) else { return };
    let mut response = ResponseHead::default();
    if response.parse(head).is_err() {
        return;
    }
    assert_eq!(response.length, head.len(), "a head is used in whole");
    check_span(response.status_line, head);
    check_fields(&response.fields, head);
    let Ok(body) = response.body(head, false) else { return };

    let mut out = Vec::new();
    let ending = Ending { delivery: Delivery::Verbatim, keep_alive: true };
    append_response((&response, head), Version::Http11, ending, Dressing::default(), &mut out);
    assert_eq!(first_head(&out), Some(out.as_slice()), "one head becomes one head");
    if response.fields.iter().count() + FIELDS_TO_CLIENT > Limits::HEADERS_MAX {
        return;
    }
    let mut again = ResponseHead::default();
    let read = again.parse(&out);
    assert!(read.is_ok(), "{} of {}", out.escape_ascii(), head.escape_ascii());
    assert_eq!(again.status, response.status);
    let body_again = again.body(&out, false).map(|body| format!("{body:?}"));
    assert_eq!(body_again, Ok(format!("{body:?}")), "the same body");
}

/// A chunked body is the same however it is split on its way.
pub fn chunked(bytes: &[u8]) {
    let whole = read_chunked(bytes, usize::MAX);
    let steps = [1, 2, 3, 7, 64, 1021].into_iter().filter(|_| bytes.len() <= SLOW_MAX);
    // A split anywhere; the input itself says where.
    let anywhere = bytes.first().map_or(1, |byte| usize::from(*byte) + 1);
    for step in steps.chain([anywhere]) {
        assert_eq!(read_chunked(bytes, step), whole, "by {step}: {}", bytes.escape_ascii());
    }
    if let Ok((content, used, _)) = whole {
        assert!(content.len() <= used && used <= bytes.len(), "no more than there was");
    }
}

/// Content, bytes used and whether the body has ended, when it arrives in pieces of `step` bytes. Why
/// a body is refused may depend on them: one that breaks two rules breaks one first.
fn read_chunked(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ()> {
    let (mut chunked, mut used, mut content) = (Chunked::default(), 0, Vec::new());
    let mut arrived = 0usize;
    loop {
        let rest = bytes.get(used..arrived).unwrap_or_default();
        match chunked.next(rest).map_err(|Malformed(_)| ())? {
            Piece::Data(count) => {
                assert!((1..=rest.len()).contains(&count), "data that is there");
                content.extend(rest.iter().take(count));
                used += count;
            }
            Piece::Framing(count) => {
                assert!((1..=rest.len()).contains(&count), "framing that is there");
                used += count;
            }
            Piece::End => return Ok((content, used, true)),
            Piece::Incomplete if arrived == bytes.len() => return Ok((content, used, false)),
            Piece::Incomplete => arrived = arrived.saturating_add(step).min(bytes.len()),
        }
    }
}

/// The head at the start of `bytes`, found alike at once and byte by byte.
fn first_head(bytes: &[u8]) -> Option<&[u8]> {
    let at_once = HeadScan::default().end(bytes);
    if bytes.len() <= SLOW_MAX {
        let mut scan = HeadScan::default();
        let ends = (0..=bytes.len()).map(|end| scan.end(bytes.get(..end).unwrap_or_default()));
        let slowly = ends.into_iter().find(|end| *end != Ok(None)).unwrap_or(Ok(None));
        assert_eq!(slowly, at_once, "{}", bytes.escape_ascii());
    }
    at_once.ok().flatten().and_then(|end| bytes.get(..end))
}

fn check_fields(fields: &Fields, head: &[u8]) {
    let mut end = 0;
    for field in fields.iter() {
        check_span(field.name, head);
        check_span(field.value, head);
        assert!(end < field.name.start(), "fields stand one after the other");
        assert!(field.name.start() < field.name.end(), "a field has a name");
        assert!(field.name.end() < field.value.start(), "a colon between name and value");
        let value = field.value.get(head);
        assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)), "a value is of one line");
        end = field.value.end();
    }
}

fn check_span(span: Span, head: &[u8]) {
    assert!(span.start() <= span.end() && span.end() <= head.len(), "{span:?} of {}", head.len());
}
