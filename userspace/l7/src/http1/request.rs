//! The head of a request: read strictly, so that no backend can read it differently.

use std::mem::MaybeUninit;

use weir_model::Limits;

use super::field::{BodyHeader, FIELDS_MAX, Fields, FramingError, Kind};
use super::{Span, Version};
use crate::refusal::Refusal;

/// The head of a request, as places in the buffer that holds it. Reused from request to request.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    /// Bytes of the head, with its empty line.
    pub(crate) length: usize,
    pub(crate) method: Span,
    /// What goes on as the request target: a path with its query, or `*`. A URI without a path leaves
    /// it empty or a query alone; it then goes on behind a `/`.
    pub(crate) target: Span,
    /// The target without its query; what routes are matched against.
    pub(crate) path: Span,
    /// Host and port as the client named them; `None` only in HTTP/1.0.
    pub(crate) host: Option<Span>,
    pub(crate) version: Version,
    pub(crate) body: BodyLength,
    /// The connection may serve another request after this one.
    pub(crate) keep_alive: bool,
    /// What the connection is to become, where the backend agrees; not for a request with a body.
    pub(crate) upgrade: Option<Span>,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    pub(crate) is_head: bool,
    /// Sending it twice has the effect of sending it once (RFC 9110 section 9.2.2).
    pub(crate) is_idempotent: bool,
    pub(crate) fields: Fields,
}

/// How long the body of a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BodyLength {
    #[default]
    None,
    Bytes(u64),
    Chunked,
}

impl RequestHead {
    /// Reads the complete head in `bytes`: all of it, with its empty line.
    ///
    /// # Errors
    /// The refusal to answer with. `self` is then of no use.
    pub(crate) fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let mut storage = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let room = storage.get_mut(..limits.headers).ok_or(Refusal::HeaderTooLarge)?;
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, room) {
            Ok(httparse::Status::Complete(length)) => self.length = length,
            Ok(httparse::Status::Partial) => return Err(Refusal::BadRequest("head is incomplete")),
            Err(error) => return Err(refuse(error, bytes)),
        }
        if self.length != bytes.len() {
            return Err(Refusal::BadRequest("head ends before its empty line"));
        }
        let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        self.version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
        self.method = Span::of(method.as_bytes(), bytes);
        self.is_head = method == "HEAD";
        self.is_idempotent =
            matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE");
        self.fields.set(bytes, request.headers);
        self.read_target(bytes, target, method)?;
        let asks_upgrade = self.read_connection(bytes);
        self.read_body(bytes)?;
        self.upgrade = if asks_upgrade { self.find_upgrade(bytes) } else { None };
        self.read_expect(bytes)
    }

    fn read_target(&mut self, bytes: &[u8], target: &str, method: &str) -> Result<(), Refusal> {
        let mut hosts = self.fields.iter().filter(|field| field.kind == Kind::Host);
        let (host, another) = (hosts.next().map(|field| field.value), hosts.next().is_some());
        drop(hosts);
        self.host = host;
        if another {
            return Err(Refusal::BadRequest("more than one host"));
        }
        if self.host.is_none() && self.version == Version::Http11 {
            return Err(Refusal::BadRequest("no host"));
        }
        if self.host.is_some_and(|host| !is_authority(host.get(bytes))) {
            return Err(Refusal::BadRequest("host is not a name or address with an optional port"));
        }
        if method == "CONNECT" {
            return Err(Refusal::UnknownMethod);
        }
        if !target.bytes().all(is_target_byte) {
            return Err(Refusal::BadRequest("target holds a byte that no URI may hold"));
        }
        self.target = Span::of(target.as_bytes(), bytes);
        if let Some((rest, port)) = strip_scheme(target) {
            self.read_absolute(bytes, rest, port)?;
        } else if !(target.starts_with('/') || (target == "*" && method == "OPTIONS")) {
            return Err(Refusal::BadRequest("target is neither a path nor a URI"));
        }
        let target = self.target.get(bytes);
        let path = memchr::memchr(b'?', target).unwrap_or(target.len());
        self.path = self.target.first(path);
        Ok(())
    }

    /// `http://host/path`: the host must be the one of `Host`, or two parsers could disagree.
    fn read_absolute(&mut self, bytes: &[u8], rest: &str, port: &[u8]) -> Result<(), Refusal> {
        // A URI may do without a path: the target is then empty, or a query alone.
        let path = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(path).unwrap_or_default();
        if !is_authority(authority.as_bytes()) {
            return Err(Refusal::BadRequest("host is not a name or address with an optional port"));
        }
        let host = self.host.map(|host| host.get(bytes));
        if host.is_some_and(|host| !is_same_host(host, authority.as_bytes(), port)) {
            return Err(Refusal::BadRequest("target and host name different hosts"));
        }
        self.host = Some(Span::of(authority.as_bytes(), bytes));
        self.target = Span::of(path.as_bytes(), bytes);
        Ok(())
    }

    /// Whether it asks for another protocol.
    fn read_connection(&mut self, bytes: &[u8]) -> bool {
        let options = self.fields.read_connection(bytes);
        self.keep_alive = match self.version {
            Version::Http11 => !options.close,
            Version::Http10 => options.keep_alive && !options.close,
        };
        options.upgrade && self.version == Version::Http11
    }

    /// One protocol, in one field, and not HTTP itself: a backend that took `h2c` would be spoken to
    /// past every rule of ours.
    fn find_upgrade(&self, bytes: &[u8]) -> Option<Span> {
        let mut fields = self.fields.iter().filter(|field| field.kind == Kind::Upgrade);
        let (field, None) = (fields.next()?, fields.next()) else { return None };
        let name = field.value.get(bytes);
        let is_token = !name.is_empty()
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(byte));
        let lower = name.to_ascii_lowercase();
        let is_http = lower.starts_with(b"h2") || lower.starts_with(b"http");
        (is_token && !is_http && self.body == BodyLength::None).then_some(field.value)
    }

    fn read_body(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.body = match self.fields.body(bytes) {
            Ok(BodyHeader::Absent | BodyHeader::Length(0)) => BodyLength::None,
            Ok(BodyHeader::Length(length)) => BodyLength::Bytes(length),
            Ok(BodyHeader::Chunked) | Err(FramingError::UnknownCoding)
                if self.version == Version::Http10 =>
            {
                return Err(Refusal::BadRequest("transfer-encoding in HTTP/1.0"));
            }
            Ok(BodyHeader::Chunked) => BodyLength::Chunked,
            Err(FramingError::UnknownCoding) => return Err(Refusal::UnknownTransferCoding),
            Err(error) => return Err(Refusal::BadRequest(error.message())),
        };
        Ok(())
    }

    fn read_expect(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut expects = self.fields.values(Kind::Expect, bytes);
        let continues = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        self.expects_continue = match expects.next() {
            None => false,
            Some(value) if continues(value) && expects.next().is_none() => true,
            Some(_) => return Err(Refusal::BadRequest("expect is not 100-continue")),
        };
        Ok(())
    }
}

/// What follows the scheme of a URI, and the port that it may leave out.
fn strip_scheme(target: &str) -> Option<(&str, &'static [u8])> {
    const SCHEMES: [(&str, &[u8]); 2] = [("http://", b":80"), ("https://", b":443")];
    SCHEMES.into_iter().find_map(|(scheme, port)| {
        let is_it = target.get(..scheme.len())?.eq_ignore_ascii_case(scheme);
        is_it.then(|| Some((target.get(scheme.len()..)?, port)))?
    })
}

fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// A registered name or an address, with an optional port; nothing that a URI parser could take
/// for user information or a path.
fn is_authority(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[").and_then(|rest| split_once(rest, b']')) {
        Some((address, port)) => {
            if !address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)) {
                return false;
            }
            (address, port)
        }
        None => match split_once(host, b':') {
            Some((name, _)) => (name, host.get(name.len()..).unwrap_or_default()),
            None => (host, &[][..]),
        },
    };
    let in_brackets = host.first() == Some(&b'[');
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let port_is_valid = match port {
        [] => true,
        [b':', digits @ ..] => {
            let plain = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(digits).ok().filter(|_| plain);
            text.is_some_and(|text| text.parse::<u16>().is_ok())
        }
        _ => false,
    };
    !name.is_empty() && port_is_valid && (in_brackets || name.iter().all(is_name))
}

/// Whether two authorities name the same host; the scheme's `port` may be left out.
fn is_same_host(one: &[u8], other: &[u8], port: &[u8]) -> bool {
    let name = |host: &[u8]| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    name(one) == name(other)
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(at, bytes)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

fn refuse(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeaderTooLarge,
        httparse::Error::Version => version(head),
        httparse::Error::HeaderName => Refusal::BadRequest("header name is not a token"),
        httparse::Error::HeaderValue => {
            Refusal::BadRequest("header value holds a control character")
        }
        httparse::Error::NewLine => Refusal::BadRequest("line does not end with CRLF"),
        _ => Refusal::BadRequest("request line is malformed"),
    }
}

/// Tells a version that exists but is not served from a request line that is malformed.
fn version(head: &[u8]) -> Refusal {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
    match words.as_slice() {
        [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal::UnknownVersion
        }
        _ => Refusal::BadRequest("request line is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RequestHead, Refusal> {
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &Limits::default()).map(|()| head)
    }

    #[test]
    fn reads_what_a_proxy_needs() {
        let text = "POST /a/b?c=d HTTP/1.1\r\nHost: Example.com:80\r\nContent-Length: 3\r\n\
                    Expect: 100-continue\r\nConnection: close\r\n\r\n";
        let head = parse(text).unwrap();
        let get = |span: Span| std::str::from_utf8(span.get(text.as_bytes())).unwrap();
        assert_eq!(get(head.method), "POST");
        assert_eq!((get(head.target), get(head.path)), ("/a/b?c=d", "/a/b"));
        assert_eq!(head.host.map(get), Some("Example.com:80"));
        assert_eq!(head.body, BodyLength::Bytes(3));
        assert!(head.expects_continue && !head.keep_alive && !head.is_idempotent);
    }

    #[test]
    fn the_absolute_form_becomes_a_path() {
        let text = "GET http://a.example/x HTTP/1.1\r\nHost: A.example\r\n\r\n";
        let head = parse(text).unwrap();
        assert_eq!(head.target.get(text.as_bytes()), b"/x");
        assert_eq!(head.host.unwrap().get(text.as_bytes()), b"a.example");
    }

    #[test]
    fn a_uri_may_leave_out_the_path_and_the_default_port() {
        for (target, host, expected) in [
            ("http://a.example", "a.example", ""),
            ("http://a.example?q", "a.example", "?q"),
            ("HTTP://A.example:80/x", "a.example", "/x"),
            ("http://a.example/x", "a.example:80", "/x"),
            ("https://a.example:443/x", "a.example", "/x"),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let head = parse(&text).unwrap();
            assert_eq!(head.target.get(text.as_bytes()), expected.as_bytes(), "{target}");
        }
        assert!(parse("GET http://a.example:81/ HTTP/1.1\r\nHost: a.example\r\n\r\n").is_err());
    }

    #[test]
    fn keep_alive_by_version() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(parse(text).unwrap().keep_alive, expected, "{text:?}");
        }
    }

    #[test]
    fn authorities() {
        for (host, expected) in [
            ("a", true),
            ("a-b.example:8080", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("[::1]:80", true),
            ("", false),
            (":80", false),
            ("a:", false),
            ("a:b", false),
            ("a:123456", false),
            ("a:65535", true),
            ("a:65536", false),
            ("a:1:2", false),
            ("[::1", false),
            ("[::1]80", false),
            ("[g]", false),
            ("u@a", false),
            ("a/b", false),
            ("a b", false),
            ("a,b", false),
        ] {
            assert_eq!(is_authority(host.as_bytes()), expected, "{host:?}");
        }
    }

    #[test]
    fn refuses_with_the_right_status() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
        ] {
            assert_eq!(parse(text).unwrap_err().status(), status, "{text:?}");
        }
    }
}
