//! The heads that Weir writes: requests to backends, answers to clients.

use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::http1::Version;
use crate::http1::field::Kind;
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::refusal::{Refusal, reason_phrase};

/// A client's request id is kept up to this length; a longer one is replaced by ours.
const REQUEST_ID_SIZE_MAX: usize = 128;

/// Who is at the client side of a connection, in the words of header fields.
#[derive(Clone, Debug)]
pub(crate) struct ClientSide {
    address: Rc<str>,
    /// `x-forwarded-proto` and `x-forwarded-port`, as lines.
    listener: Rc<str>,
}

impl ClientSide {
    /// A client at `peer` that reached us at `local`.
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr, scheme: Scheme) -> Self {
        let (scheme, port) = (scheme.name(), local.port());
        let listener = format!("x-forwarded-proto: {scheme}\r\nx-forwarded-port: {port}\r\n");
        Self { address: peer.ip().to_canonical().to_string().into(), listener: listener.into() }
    }
}

/// How a client reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A request that goes on, and what is said with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) request: &'a RequestHead,
    pub(crate) head: &'a [u8],
    pub(crate) client: &'a ClientSide,
    pub(crate) id: &'a [u8],
    /// The backend speaks HTTP/2, where trailers need to be asked for.
    pub(crate) to_http2: bool,
}

/// Appends the head of a request as the backend gets it.
pub(crate) fn append_request(outgoing: Outgoing<'_>, out: &mut Vec<u8>) {
    let Outgoing { request, head, client, id, to_http2 } = outgoing;
    out.extend_from_slice(request.method.get(head));
    out.push(b' ');
    let target = request.target.get(head);
    if !matches!(target.first(), Some(b'/' | b'*')) {
        out.push(b'/');
    }
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    // HTTP/1.0 may do without a host; HTTP/1.1, which the backend gets, may not.
    let host = request.host.map_or(&b"localhost"[..], |host| host.get(head));
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    let goes_on = |kind| goes_to_backend(kind) || (to_http2 && kind == Kind::Te);
    request.fields.append(head, goes_on, out);
    if let Some(protocol) = request.upgrade {
        append_upgrade(protocol.get(head), out);
    }
    append_forwarded_for(request, head, client, out);
    out.extend_from_slice(client.listener.as_bytes());
    out.extend_from_slice(b"x-forwarded-host: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\nx-request-id: ");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\r\n\r\n");
}

fn goes_to_backend(kind: Kind) -> bool {
    match kind {
        Kind::EndToEnd
        | Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Expect
        | Kind::Via => true,
        Kind::Host
        | Kind::Connection
        | Kind::HopByHop
        | Kind::Upgrade
        | Kind::Te
        | Kind::Replaced
        | Kind::ForwardedFor
        | Kind::RequestId => false,
    }
}

/// The proxies before us said who is before them; the last element is what we saw ourselves.
fn append_forwarded_for(
    request: &RequestHead,
    head: &[u8],
    client: &ClientSide,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"x-forwarded-for: ");
    for value in request.fields.values(Kind::ForwardedFor, head) {
        if !value.is_empty() {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
    out.extend_from_slice(client.address.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Sets `id` to what the request is found by in logs: the client's own, or one from 128 random bits.
pub(crate) fn set_request_id(
    request: Option<(&RequestHead, &[u8])>,
    random: impl FnOnce() -> u128,
    id: &mut Vec<u8>,
) {
    let is_kept = |id: &&[u8]| {
        (1..=REQUEST_ID_SIZE_MAX).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte))
    };
    let theirs = request
        .and_then(|(request, head)| request.fields.values(Kind::RequestId, head).next())
        .filter(is_kept);
    id.clear();
    match theirs {
        Some(theirs) => id.extend_from_slice(theirs),
        None => append_hexadecimal(random(), id),
    }
}

fn append_hexadecimal(number: u128, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in number.to_be_bytes() {
        for nibble in [byte >> 4, byte & 15] {
            out.extend(DIGITS.get(usize::from(nibble)));
        }
    }
}

/// How the body of an answer goes on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// As the backend framed it.
    Verbatim,
    /// In chunks: the backend says the end by closing, the client gets to keep its connection.
    Chunk,
    /// Without the backend's chunks, for a client that does not know them; then closed.
    Unchunk,
}

/// Appends the head of a backend's answer as the client gets it.
pub(crate) fn append_response(
    response: &ResponseHead,
    head: &[u8],
    to: Version,
    ending: Ending,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(response.status_line.get(head));
    let keeps_framing = ending.delivery == Delivery::Verbatim;
    let goes_to_client = |kind| match kind {
        Kind::TransferEncoding | Kind::ContentLength => keeps_framing,
        Kind::Connection | Kind::HopByHop | Kind::Te | Kind::Upgrade => false,
        _ => true,
    };
    response.fields.append(head, goes_to_client, out);
    out.extend_from_slice(b"via: 1.1 weir\r\n");
    if ending.delivery == Delivery::Chunk {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if response.status == 101 {
        let protocol = response.fields.values(Kind::Upgrade, head).next().unwrap_or_default();
        append_upgrade(protocol, out);
    } else if !response.is_interim() {
        append_connection(ending.keep_alive, to, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// How an answer ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) delivery: Delivery,
    /// The client's connection serves another request afterwards.
    pub(crate) keep_alive: bool,
}

/// Who gets an answer of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) request_id: &'a [u8],
    pub(crate) version: Version,
    /// An answer to HEAD has no body.
    pub(crate) is_head: bool,
    /// The connection serves another request afterwards.
    pub(crate) keep_alive: bool,
}

/// Appends the answer to a refused request: all of it.
pub(crate) fn append_refusal(refusal: Refusal, asker: Asker<'_>, out: &mut Vec<u8>) {
    let id = String::from_utf8_lossy(asker.request_id);
    // Neither text holds a character that JSON would have to escape.
    let body = format!("{{\"message\":\"{}\",\"request_id\":\"{id}\"}}\n", refusal.message());
    let status = refusal.status();
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {}\r\ndate: {date}\r\nvia: 1.1 weir\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n",
        reason_phrase(status),
        body.len()
    );
    append_connection(asker.keep_alive, asker.version, out);
    out.extend_from_slice(b"\r\n");
    if !asker.is_head {
        out.extend_from_slice(body.as_bytes());
    }
}

fn append_upgrade(protocol: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
    out.extend_from_slice(protocol);
    out.extend_from_slice(b"\r\n");
}

/// Says what the version does not imply.
fn append_connection(keep_alive: bool, version: Version, out: &mut Vec<u8>) {
    match (keep_alive, version) {
        (true, Version::Http11) => {}
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
    }
}
