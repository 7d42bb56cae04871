//! The head of a backend's answer.

use std::mem::MaybeUninit;

use super::body::Body;
use super::chunked::Chunked;
use super::field::{BodyHeader, FIELDS_MAX, Fields};
use super::{Span, Version};

/// The head of an answer, as places in the buffer that holds it. Reused from answer to answer.
#[derive(Debug, Default)]
pub(crate) struct ResponseHead {
    /// Bytes of the head, with its empty line.
    pub(crate) length: usize,
    pub(crate) status: u16,
    /// The status code and the reason phrase, with the line's end: what follows the version.
    pub(crate) status_line: Span,
    /// The backend's connection may serve another request after this one.
    pub(crate) keep_alive: bool,
    pub(crate) fields: Fields,
}

/// The answer breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadResponse;

impl ResponseHead {
    /// Reads the complete head in `bytes`: all of it, with its empty line.
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> Result<(), BadResponse> {
        let mut storage = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            bytes,
            &mut storage,
        );
        let Ok(httparse::Status::Complete(length)) = parsed else { return Err(BadResponse) };
        if length != bytes.len() {
            return Err(BadResponse);
        }
        self.length = length;
        self.status = response.code.filter(|code| (100..=999).contains(code)).ok_or(BadResponse)?;
        let after_version = "HTTP/1.1 ".len();
        let line = memchr::memchr(b'\n', bytes).ok_or(BadResponse)?;
        self.status_line = Span::new(after_version, line + 1);
        self.fields.set(bytes, response.headers);
        let options = self.fields.read_connection(bytes);
        let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
        self.keep_alive = match version {
            Version::Http11 => !options.close,
            Version::Http10 => options.keep_alive && !options.close,
        };
        Ok(())
    }

    /// An answer before the answer: 100 Continue, 103 Early Hints.
    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// Where the body ends (RFC 9112 section 6.3).
    pub(crate) fn body(&self, bytes: &[u8], to_head_request: bool) -> Result<Body, BadResponse> {
        let header = self.fields.body(bytes).map_err(|_| BadResponse)?;
        if to_head_request || self.is_interim() || matches!(self.status, 204 | 304) {
            return Ok(Body::EMPTY);
        }
        Ok(match header {
            BodyHeader::Length(length) => Body::Length(length),
            BodyHeader::Chunked => Body::Chunked(Chunked::default()),
            BodyHeader::Absent => Body::UntilClose,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        for (text, to_head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, Ok("Length(5)")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Ok("Length(0)")),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, Ok("Length(0)")),
            ("HTTP/1.1 204\r\n\r\n", false, Ok("Length(0)")),
            ("HTTP/1.0 200 OK\r\n\r\n", false, Ok("UntilClose")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", false, Err(())),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, Err(())),
            ("HTTP/1.1 abc OK\r\n\r\n", false, Err(())),
            ("HTTP/2.0 200 OK\r\n\r\n", false, Err(())),
            ("HTTP/1.1 099 OK\r\n\r\n", false, Err(())),
        ] {
            let mut head = ResponseHead::default();
            let body =
                head.parse(text.as_bytes()).and_then(|()| head.body(text.as_bytes(), to_head));
            let body = body.map(|body| format!("{body:?}")).map_err(|BadResponse| ());
            assert_eq!(body.as_deref(), expected.as_ref().copied(), "{text:?}");
        }
    }
}
