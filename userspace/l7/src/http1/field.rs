//! Header fields as places in a buffer: what they mean to a proxy, and how they go on.

use super::Span;

/// Fields of a message that a parser has room for; the configured limit is below it.
pub(crate) const FIELDS_MAX: usize = weir_model::Limits::HEADERS_MAX;

/// One field line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: Span,
    pub(crate) value: Span,
    pub(crate) kind: Kind,
}

/// What a field means to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    ForwardedFor,
    RequestId,
    /// For this connection only, but for `trailers` on the way to HTTP/2.
    Te,
    Via,
    /// What the connection is to become.
    Upgrade,
    /// For this connection only, by RFC 9110 section 7.6.1 or because `Connection` names it.
    HopByHop,
    /// What a client says of how it reached us: ours replaces it.
    Replaced,
    /// Goes on as it is.
    EndToEnd,
}

impl Kind {
    /// The kind of the field with that name.
    pub(crate) fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            3 if is("via") => Self::Via,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::HopByHop,
            12 if is("x-request-id") => Self::RequestId,
            14 if is("content-length") => Self::ContentLength,
            15 if is("x-forwarded-for") => Self::ForwardedFor,
            16 if is("x-forwarded-host") || is("x-forwarded-port") => Self::Replaced,
            16 if is("proxy-connection") => Self::HopByHop,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("x-forwarded-proto") => Self::Replaced,
            _ => Self::EndToEnd,
        }
    }
}

/// The fields of one head, in their order; reused from head to head.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<Field>);

impl Fields {
    /// Takes over what httparse found in `head`.
    pub(crate) fn set(&mut self, head: &[u8], parsed: &[httparse::Header<'_>]) {
        self.0.clear();
        self.0.extend(parsed.iter().map(|header| Field {
            name: Span::of(header.name.as_bytes(), head),
            value: Span::of(header.value, head),
            kind: Kind::of(header.name.as_bytes()),
        }));
    }

    /// Every field.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    /// The values of every field of that kind.
    pub(crate) fn values<'a>(
        &'a self,
        kind: Kind,
        head: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.kind == kind).map(|field| field.value.get(head))
    }

    /// The values of every field of that name, which is in lower case.
    pub(crate) fn named<'a>(
        &'a self,
        name: &'a str,
        head: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        let named =
            move |field: &&Field| field.name.get(head).eq_ignore_ascii_case(name.as_bytes());
        self.0.iter().filter(named).map(|field| field.value.get(head))
    }

    /// Reads every `Connection` field: marks what it names as hop-by-hop, and tells whether it
    /// says `close` and `keep-alive`. Fields with a meaning of their own keep it: naming `host` or
    /// `content-length` there must not make them vanish.
    pub(crate) fn read_connection(&mut self, head: &[u8]) -> ConnectionOptions {
        let mut options = ConnectionOptions::default();
        for index in 0..self.0.len() {
            let Some(field) = self.0.get(index).copied() else { break };
            if field.kind != Kind::Connection {
                continue;
            }
            for option in list(field.value.get(head)) {
                if option.eq_ignore_ascii_case(b"close") {
                    options.close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    options.keep_alive = true;
                } else if option.eq_ignore_ascii_case(b"upgrade") {
                    options.upgrade = true;
                } else {
                    self.mark_hop_by_hop(option, head);
                }
            }
        }
        options
    }

    fn mark_hop_by_hop(&mut self, name: &[u8], head: &[u8]) {
        for field in &mut self.0 {
            if field.kind == Kind::EndToEnd && field.name.get(head).eq_ignore_ascii_case(name) {
                field.kind = Kind::HopByHop;
            }
        }
    }

    /// Appends the lines of all fields that `keep`, as they were sent; lines that stand together
    /// are copied together.
    pub(crate) fn append(&self, head: &[u8], keep: impl Fn(&Field) -> bool, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for field in &self.0 {
            if !keep(field) {
                continue;
            }
            // A field's line ends where the next one begins: after its CRLF, past trailing blanks.
            let end = line_end(head, field.value.end());
            if run.end != field.name.start() {
                out.extend_from_slice(head.get(run.clone()).unwrap_or_default());
                run.start = field.name.start();
            }
            run.end = end;
        }
        out.extend_from_slice(head.get(run).unwrap_or_default());
    }
}

/// What `Connection` says of the connection itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionOptions {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
}

/// The elements of a comma-separated list without blanks around them; empty ones are left out.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

fn line_end(head: &[u8], value_end: usize) -> usize {
    let rest = head.get(value_end..).unwrap_or_default();
    // Nearly always at once: the value ends at CRLF.
    value_end + rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1)
}

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyHeader {
    /// Neither field.
    Absent,
    Length(u64),
    Chunked,
}

/// Why the framing fields cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingError {
    BothLengths,
    ContentLengthTwice,
    ContentLengthNumber,
    TransferCoding,
    UnknownCoding,
}

impl FramingError {
    /// What is wrong, for the client or the log.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::BothLengths => "content-length and transfer-encoding together",
            Self::ContentLengthTwice => "more than one content-length",
            Self::ContentLengthNumber => "content-length is not a number",
            Self::TransferCoding => "transfer-encoding is not exactly chunked",
            Self::UnknownCoding => "a transfer coding other than chunked",
        }
    }
}

impl Fields {
    /// Reads `Content-Length` and `Transfer-Encoding`, taking only what every parser reads alike.
    pub(crate) fn body(&self, head: &[u8]) -> Result<BodyHeader, FramingError> {
        let mut lengths = self.values(Kind::ContentLength, head);
        let mut codings = self.values(Kind::TransferEncoding, head);
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(BodyHeader::Absent),
            (Some(_), Some(_)) => Err(FramingError::BothLengths),
            (Some(_), None) if lengths.next().is_some() => Err(FramingError::ContentLengthTwice),
            (Some(length), None) => content_length(length).map(BodyHeader::Length),
            (None, Some(_)) if codings.next().is_some() => Err(FramingError::TransferCoding),
            (None, Some(coding)) => transfer_coding(coding),
        }
    }
}

fn content_length(value: &[u8]) -> Result<u64, FramingError> {
    // Nothing but digits, and few enough that no parser overflows.
    let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok()).ok_or(FramingError::ContentLengthNumber)
}

fn transfer_coding(value: &[u8]) -> Result<BodyHeader, FramingError> {
    const KNOWN: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(BodyHeader::Chunked);
    }
    // A well-formed request that we could not forward is told apart from an ambiguous one.
    let mut codings: Vec<&[u8]> = list(value).collect();
    let last = codings.pop().unwrap_or_default();
    let known = |coding: &&[u8]| KNOWN.iter().any(|known| coding.eq_ignore_ascii_case(known));
    if last.eq_ignore_ascii_case(b"chunked") && !codings.is_empty() && codings.iter().all(known) {
        Err(FramingError::UnknownCoding)
    } else {
        Err(FramingError::TransferCoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> (Vec<u8>, Fields) {
        let head = format!("{text}\r\n").into_bytes();
        let mut parsed = [httparse::EMPTY_HEADER; 16];
        let parsed = match httparse::parse_headers(&head, &mut parsed).unwrap() {
            httparse::Status::Complete((_, parsed)) => parsed,
            httparse::Status::Partial => panic!("incomplete: {text:?}"),
        };
        let mut fields = Fields::default();
        fields.set(&head, parsed);
        (head, fields)
    }

    #[test]
    fn framing() {
        for (text, expected) in [
            ("a: b\r\n", Ok(BodyHeader::Absent)),
            ("Content-Length: 0\r\n", Ok(BodyHeader::Length(0))),
            ("content-length:  17 \r\n", Ok(BodyHeader::Length(17))),
            ("content-length: \r\n", Err(FramingError::ContentLengthNumber)),
            ("content-length: +1\r\n", Err(FramingError::ContentLengthNumber)),
            ("content-length: 1, 1\r\n", Err(FramingError::ContentLengthNumber)),
            ("content-length: 9999999999999999999\r\n", Err(FramingError::ContentLengthNumber)),
            ("content-length: 1\r\ncontent-length: 1\r\n", Err(FramingError::ContentLengthTwice)),
            ("transfer-encoding: CHUNKED\r\n", Ok(BodyHeader::Chunked)),
            ("transfer-encoding: gzip, chunked\r\n", Err(FramingError::UnknownCoding)),
            ("transfer-encoding: chunked, chunked\r\n", Err(FramingError::TransferCoding)),
            ("transfer-encoding: identity\r\n", Err(FramingError::TransferCoding)),
            ("transfer-encoding: xchunked\r\n", Err(FramingError::TransferCoding)),
            ("transfer-encoding:\r\n", Err(FramingError::TransferCoding)),
            ("transfer-encoding: chunked\r\ncontent-length: 1\r\n", Err(FramingError::BothLengths)),
        ] {
            let (head, fields) = fields(text);
            assert_eq!(fields.body(&head), expected, "{text:?}");
        }
    }

    #[test]
    fn hop_by_hop_fields_stay_behind() {
        for (text, expected) in [
            ("a: 1\r\nTE: x\r\nb: 2\r\n", "a: 1\r\nb: 2\r\n"),
            ("Connection: B, close\r\na: 1\r\nb:2 \r\nc:3\t\r\n", "a: 1\r\nc:3\t\r\n"),
            ("connection: host\r\nhost: x\r\n", "host: x\r\n"),
            ("keep-alive: 1\r\n", ""),
            ("a:\r\nupgrade:\r\nb: 1\r\n", "a:\r\nb: 1\r\n"),
        ] {
            let (head, mut fields) = fields(text);
            fields.read_connection(&head);
            let mut out = Vec::new();
            let keep = |field: &Field| {
                !matches!(field.kind, Kind::HopByHop | Kind::Connection | Kind::Te | Kind::Upgrade)
            };
            fields.append(&head, keep, &mut out);
            assert_eq!(
                out.escape_ascii().to_string(),
                expected.as_bytes().escape_ascii().to_string()
            );
        }
    }
}
