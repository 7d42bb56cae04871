//! Heads of HTTP/2 as heads of HTTP/1.1, and back. Pure.

use std::io::Write;

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::{Method, Request, Response, StatusCode, Uri, request};

use crate::http1::Span;
use crate::http1::field::{Fields, Kind};
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;

/// How a request's body goes on in HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As long as the head says; nothing follows it.
    Length,
    /// In chunks, trailers behind them.
    Chunked,
    /// Bytes of another protocol: RFC 8441.
    Raw,
}

/// The head cannot be put into the other version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Untranslatable;

/// How the body of a request goes on; `ends` is whether nothing follows the head.
pub(super) fn request_framing(request: &request::Parts, ends: bool) -> Framing {
    let protocol = request.extensions.get::<h2::ext::Protocol>();
    if protocol.is_some_and(|protocol| protocol.as_str() == "websocket") {
        Framing::Raw
    } else if ends || request.headers.contains_key(CONTENT_LENGTH) {
        Framing::Length
    } else {
        Framing::Chunked
    }
}

/// Appends a request's head in HTTP/1.1; `key` is that of a WebSocket. What the strict parser of HTTP/1.1
/// then refuses is refused.
pub(super) fn append_request(
    request: &request::Parts,
    framing: Framing,
    key: impl FnOnce() -> String,
    out: &mut Vec<u8>,
) {
    let method = if framing == Framing::Raw { "GET" } else { request.method.as_str() };
    let target = request.uri.path_and_query().map_or("*", |target| match target.as_str() {
        "" => "/",
        target => target,
    });
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        append_field("host", authority, out);
    }
    let mut cookies = 0;
    for (name, value) in &request.headers {
        if name == TRANSFER_ENCODING {
            continue;
        }
        // Two hosts that differ are for the parser to refuse.
        if name == HOST && authority == Some(value.as_bytes()) {
            continue;
        }
        if name == COOKIE {
            cookies += 1;
            continue;
        }
        append_field(name.as_str(), value.as_bytes(), out);
    }
    if cookies > 0 {
        // Crumbs, one after the other (RFC 9113 section 8.2.3).
        let crumbs: Vec<_> =
            request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        append_field("cookie", &crumbs.join(&b"; "[..]), out);
    }
    match framing {
        Framing::Length => {}
        Framing::Chunked => append_field("transfer-encoding", b"chunked", out),
        Framing::Raw => {
            append_field("connection", b"upgrade", out);
            append_field("upgrade", b"websocket", out);
            append_field("sec-websocket-key", key().as_bytes(), out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an answer's head in HTTP/1.1; the answer to a request that is `head` has no body.
pub(super) fn append_response(
    response: &Response<()>,
    ends: bool,
    to_head_request: bool,
    out: &mut Vec<u8>,
) -> Framing {
    let status = response.status();
    let _ =
        write!(out, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or(""));
    for (name, value) in response.headers() {
        append_field(name.as_str(), value.as_bytes(), out);
    }
    let has_length = response.headers().contains_key("content-length");
    let never_has_body = to_head_request || matches!(status.as_u16(), 100..200 | 204 | 304);
    let framing = match (has_length || never_has_body, ends) {
        (true, _) => Framing::Length,
        (false, true) => {
            out.extend_from_slice(b"content-length: 0\r\n");
            Framing::Length
        }
        (false, false) => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Framing::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    framing
}

/// Appends the head with which a server of HTTP/1.1 agrees to a WebSocket.
pub(super) fn append_switch(response: &Response<()>, accept: &str, out: &mut Vec<u8>) -> Framing {
    let _ = write!(
        out,
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n"
    );
    for (name, value) in response.headers() {
        append_field(name.as_str(), value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
    Framing::Raw
}

/// Appends trailers as the lines behind a chunked body.
pub(super) fn append_trailers(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in trailers {
        append_field(name.as_str(), value.as_bytes(), out);
    }
}

fn append_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The answer whose head was read in HTTP/1.1.
pub(super) fn response(
    response: &ResponseHead,
    head: &Bytes,
) -> Result<Response<()>, Untranslatable> {
    let mut translated = Response::new(());
    *translated.status_mut() = StatusCode::from_u16(response.status).map_err(|_| Untranslatable)?;
    *translated.headers_mut() = headers(&response.fields, head)?;
    Ok(translated)
}

/// The request whose head was read in HTTP/1.1.
pub(super) fn request(
    request: &RequestHead,
    head: &Bytes,
    scheme: &'static str,
) -> Result<Request<()>, Untranslatable> {
    let text = |span: Span| std::str::from_utf8(span.get(head)).map_err(|_| Untranslatable);
    let authority = text(request.host.ok_or(Untranslatable)?)?;
    let uri = Uri::builder().scheme(scheme).authority(authority);
    let uri = uri.path_and_query(text(request.target)?).build().map_err(|_| Untranslatable)?;
    let mut translated = Request::new(());
    *translated.method_mut() =
        Method::from_bytes(request.method.get(head)).map_err(|_| Untranslatable)?;
    *translated.uri_mut() = uri;
    let mut fields = headers(&request.fields, head)?;
    fields.remove("host");
    *translated.headers_mut() = fields;
    Ok(translated)
}

/// The fields that have a place in HTTP/2. Their values stay where they are: a copy of each would cost
/// more than all the rest.
fn headers(fields: &Fields, head: &Bytes) -> Result<HeaderMap, Untranslatable> {
    let mut map = HeaderMap::with_capacity(fields.iter().count());
    for field in fields.iter() {
        match field.kind {
            Kind::Connection | Kind::HopByHop | Kind::TransferEncoding | Kind::Upgrade => continue,
            Kind::Te if field.value.get(head) != b"trailers" => continue,
            _ => {}
        }
        let name = HeaderName::from_bytes(field.name.get(head)).map_err(|_| Untranslatable)?;
        let value = head.slice_ref(field.value.get(head));
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Untranslatable)?;
        map.append(name, value);
    }
    Ok(map)
}

/// The fields of trailer lines, those that can be read.
pub(super) fn trailers(lines: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use weir_model::Limits;

    use super::*;

    fn parts(request: request::Builder) -> request::Parts {
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_request_there_and_back() {
        let there = parts(
            Request::post("https://a.example/x?y")
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .header("te", "trailers")
                .header("host", "a.example"),
        );
        let mut text = Vec::new();
        assert_eq!(request_framing(&there, true), Framing::Length);
        assert_eq!(request_framing(&there, false), Framing::Chunked);
        append_request(&there, Framing::Chunked, String::new, &mut text);
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            "POST /x?y HTTP/1.1\r\nhost: a.example\r\nte: trailers\r\ncookie: a=1; b=2\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        let mut head = RequestHead::default();
        head.parse(&text, &Limits::default()).unwrap();
        let back = request(&head, &text.into(), "https").unwrap();
        assert_eq!(back.uri(), "https://a.example/x?y");
        assert_eq!(back.headers()["te"], "trailers");
        assert!(!back.headers().contains_key("transfer-encoding"));
    }

    #[test]
    fn hosts_that_differ_are_left_to_the_parser() {
        let there = parts(Request::get("https://a.example/").header("host", "b.example"));
        let mut text = Vec::new();
        append_request(&there, Framing::Length, String::new, &mut text);
        assert!(RequestHead::default().parse(&text, &Limits::default()).is_err());
    }

    #[test]
    fn trailer_lines() {
        let map = trailers(b"grpc-status: 0\r\nx:  y \r\nbroken\r\n");
        assert_eq!((map.len(), map["grpc-status"].to_str().unwrap()), (2, "0"));
        let mut lines = Vec::new();
        append_trailers(&map, &mut lines);
        assert_eq!(lines, b"grpc-status: 0\r\nx: y\r\n");
    }
}
