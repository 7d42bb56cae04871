//! The heads that Weir writes: requests to backends, answers to clients.

use std::borrow::Cow;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use weir_model::{Encoding, HeaderEdits, Rewrite};

use crate::compress;
use crate::http1::Version;
use crate::http1::field::{Field, Kind};
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::refusal::{Refusal, reason_phrase};
use crate::route::{Matched, normal_path};
use crate::snapshot::Routed;

/// A client's request id is kept up to this length; a longer one is replaced by ours.
const REQUEST_ID_SIZE_MAX: usize = 128;

const RETRY_AFTER: (&str, &str) = ("retry-after", "1");
const VIA: &[u8] = b"1.1 weir";

/// Who is at the client side of a connection, in the words of header fields.
#[derive(Clone, Debug)]
pub(crate) struct ClientSide {
    /// As it goes to backends.
    address: Rc<str>,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) scheme: Scheme,
    /// What the client asked for in the TLS handshake.
    pub(crate) server_name: Option<Rc<str>>,
    /// `x-forwarded-proto` and `x-forwarded-port`, as lines.
    listener: Rc<str>,
}

impl ClientSide {
    /// A client at `peer` that reached us at `local`; `lines` are those of [`listener_lines`].
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr, scheme: Scheme, lines: Rc<str>) -> Self {
        let address = peer.ip().to_canonical().to_string().into();
        Self { address, peer, local, scheme, server_name: None, listener: lines }
    }

    fn append_listener(&self, edits: Option<&HeaderEdits>, out: &mut Vec<u8>) {
        if edits.is_none() {
            return out.extend_from_slice(self.listener.as_bytes());
        }
        append_ours(edits, "x-forwarded-proto", self.scheme.name().as_bytes(), out);
        append_ours(edits, "x-forwarded-port", self.local.port().to_string().as_bytes(), out);
    }

    /// Where the client is.
    pub(crate) fn source(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }
}

/// What backends are told of where clients reached us, as lines: the same for all at one port.
pub(crate) fn listener_lines(scheme: Scheme, port: u16) -> Rc<str> {
    let proto = scheme.name();
    format!("x-forwarded-proto: {proto}\r\nx-forwarded-port: {port}\r\n").into()
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
    /// What the route changes; `None` is nothing.
    pub(crate) routed: Option<Routed<'a>>,
}

/// Appends the head of a request as the backend gets it.
pub(crate) fn append_request(outgoing: Outgoing<'_>, out: &mut Vec<u8>) {
    let Outgoing { request, head, client, id, to_http2, routed } = outgoing;
    let rewrite = routed.map(|routed| &routed.route.rewrite);
    let edits = routed.map(|routed| &routed.route.request_headers);
    out.extend_from_slice(request.method.get(head));
    out.push(b' ');
    match routed.filter(|routed| changes_path(&routed.route.rewrite)) {
        None => append_target(request.target.get(head), out),
        Some(routed) => append_new_target(request, head, routed, out),
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    // HTTP/1.0 may do without a host; HTTP/1.1, which the backend gets, may not.
    let host = request.host.map_or(&b"localhost"[..], |host| host.get(head));
    let new_host = rewrite.and_then(|rewrite| rewrite.host.as_ref());
    out.extend_from_slice(new_host.map_or(host, |host| host.as_bytes()));
    out.extend_from_slice(b"\r\n");
    let goes_on = |kind| goes_to_backend(kind) || (to_http2 && kind == Kind::Te);
    match edits {
        None => request.fields.append(head, |field| goes_on(field.kind), out),
        Some(edits) => {
            let keep = |field: &Field| goes_on(field.kind) && keeps(edits, field.name.get(head));
            request.fields.append(head, keep, out);
            append_edits(edits, out);
        }
    }
    if let Some(protocol) = request.upgrade {
        append_upgrade(protocol.get(head), out);
    }
    if keeps_ours(edits, "x-forwarded-for") {
        append_forwarded_for(request, head, client, out);
    }
    client.append_listener(edits, out);
    append_ours(edits, "x-forwarded-host", host, out);
    append_ours(edits, "x-request-id", id, out);
    out.extend_from_slice(b"\r\n");
}

fn append_target(target: &[u8], out: &mut Vec<u8>) {
    if !matches!(target.first(), Some(b'/' | b'*')) {
        out.push(b'/');
    }
    out.extend_from_slice(target);
}

fn changes_path(rewrite: &Rewrite) -> bool {
    rewrite.strip_path || rewrite.path.is_some()
}

/// The path is changed as routes see it, that is, without its detours; the query stays as it is.
fn append_new_target(
    request: &RequestHead,
    head: &[u8],
    Routed { route, matched }: Routed<'_>,
    out: &mut Vec<u8>,
) {
    let (target, path) = (request.target.get(head), request.path.get(head));
    let query = target.get(path.len()..).unwrap_or_default();
    let path = std::str::from_utf8(path).unwrap_or("/");
    let path = normal_path(if path.is_empty() { "/" } else { path }).unwrap_or_default();
    let new = route.rewrite.path.as_deref().unwrap_or("");
    let changed = match matched {
        Matched::Whole => Cow::Borrowed(new),
        Matched::Prefix(length) => {
            let rest = path.get(length..).unwrap_or_default();
            let new = new.strip_suffix('/').unwrap_or(new);
            let slash = if rest.is_empty() || rest.starts_with('/') { "" } else { "/" };
            Cow::Owned(format!("{new}{slash}{rest}"))
        }
        Matched::Regex(regex) => regex.replace(&path, new),
    };
    append_target(changed.as_bytes(), out);
    out.extend_from_slice(query);
}

/// Whether a field that we write is wanted: what a route sets stands in its place.
fn keeps_ours(edits: Option<&HeaderEdits>, name: &str) -> bool {
    edits.is_none_or(|edits| keeps(edits, name.as_bytes()))
}

fn append_ours(edits: Option<&HeaderEdits>, name: &str, value: &[u8], out: &mut Vec<u8>) {
    if keeps_ours(edits, name) {
        append_field(name, value, out);
    }
}

/// Whether a field is left as it is.
fn keeps(edits: &HeaderEdits, name: &[u8]) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    !edits.remove.iter().any(|known| is(known)) && !edits.set.iter().any(|(known, _)| is(known))
}

fn append_edits(edits: &HeaderEdits, out: &mut Vec<u8>) {
    for (name, value) in edits.set.iter().chain(&edits.add) {
        append_field(name, value.as_bytes(), out);
    }
}

fn append_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
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
    /// Compressed, in chunks.
    EncodeChunked,
    /// Compressed, for a client that does not know chunks; then closed.
    EncodePlain,
}

impl Delivery {
    /// Whether each piece is a chunk of ours.
    pub(crate) fn is_chunked(self) -> bool {
        matches!(self, Self::Chunk | Self::EncodeChunked)
    }
}

/// What is changed of an answer's head on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dressing<'a> {
    /// What the route says; `None` is nothing.
    pub(crate) edits: Option<&'a HeaderEdits>,
    /// The value of a `set-cookie` of ours.
    pub(crate) cookie: Option<&'a str>,
    /// What the body is compressed with.
    pub(crate) encoding: Option<Encoding>,
    /// It could have been compressed for another client.
    pub(crate) varies: bool,
}

/// Appends the head of a backend's answer as the client gets it.
pub(crate) fn append_response(
    (response, head): (&ResponseHead, &[u8]),
    to: Version,
    ending: Ending,
    dressing: Dressing<'_>,
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
    let Dressing { edits, cookie, encoding, varies } = dressing;
    if edits.is_none() && encoding.is_none() {
        response.fields.append(head, |field| goes_to_client(field.kind), out);
    } else {
        let goes_on = |field: &Field| {
            let name = field.name.get(head);
            goes_to_client(field.kind)
                && edits.is_none_or(|edits| keeps(edits, name))
                && (encoding.is_none() || compress::keeps(field.kind, name))
        };
        response.fields.append(head, goes_on, out);
        edits.into_iter().for_each(|edits| append_edits(edits, out));
    }
    if let Some(encoding) = encoding {
        append_field("content-encoding", encoding.name().as_bytes(), out);
    }
    if varies {
        append_field("vary", b"accept-encoding", out);
    }
    if let Some(cookie) = cookie {
        append_field("set-cookie", cookie.as_bytes(), out);
    }
    append_ours(edits, "via", VIA, out);
    let is_chunked = matches!(ending.delivery, Delivery::Chunk | Delivery::EncodeChunked);
    if is_chunked {
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

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnAnswer<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    /// A field more, with its value.
    pub(crate) field: Option<(&'a str, &'a str)>,
    pub(crate) body: &'a [u8],
    /// What the route says; `None` is nothing.
    pub(crate) edits: Option<&'a HeaderEdits>,
}

/// Appends the answer to a refused request: all of it.
pub(crate) fn append_refusal(refusal: Refusal, asker: Asker<'_>, out: &mut Vec<u8>) {
    let id = String::from_utf8_lossy(asker.request_id);
    // Neither text holds a character that JSON would have to escape.
    let body = format!("{{\"message\":\"{}\",\"request_id\":\"{id}\"}}\n", refusal.message());
    let status = refusal.status();
    // Whoever is refused because there is no room is told when to come back.
    let field = (status == 503).then_some(RETRY_AFTER);
    let (content_type, body) = ("application/json", body.as_bytes());
    append_own(OwnAnswer { status, content_type, field, body, edits: None }, asker, out);
}

/// Appends an answer of ours: all of it.
pub(crate) fn append_own(answer: OwnAnswer<'_>, asker: Asker<'_>, out: &mut Vec<u8>) {
    let OwnAnswer { status, content_type, field, body, edits } = answer;
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason_phrase(status));
    append_ours(edits, "date", date.as_bytes(), out);
    append_ours(edits, "via", VIA, out);
    if let Some((name, value)) = field {
        append_ours(edits, name, value.as_bytes(), out);
    }
    if !matches!(status, 204 | 304) {
        append_ours(edits, "content-type", content_type.as_bytes(), out);
        let _ = write!(out, "content-length: {}\r\n", body.len());
    }
    edits.into_iter().for_each(|edits| append_edits(edits, out));
    append_connection(asker.keep_alive, asker.version, out);
    out.extend_from_slice(b"\r\n");
    if !asker.is_head && !matches!(status, 204 | 304) {
        out.extend_from_slice(body);
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
