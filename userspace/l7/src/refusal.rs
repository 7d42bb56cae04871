//! Why a request was answered by Weir itself: the one place that knows status codes.

/// Why we answered ourselves, or cut the connection. The name is the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request breaks the protocol, or could be read in two ways; says how.
    BadRequest(&'static str),
    /// The head did not arrive in time.
    HeaderTimeout,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The head has too many bytes or fields.
    HeaderTooLarge,
    /// The body has more bytes than the listener takes.
    BodyTooLarge,
    /// A transfer coding other than chunked.
    UnknownTransferCoding,
    /// An HTTP version other than 1.0 and 1.1.
    UnknownVersion,
    /// A method that a reverse proxy does not serve: CONNECT.
    UnknownMethod,
    /// No route matches.
    NoRoute,
    /// Every backend of the upstream is down or was tried.
    NoBackend,
    /// No connection to a backend could be opened.
    ConnectFailed,
    /// No connection to a backend was opened in time.
    ConnectTimeout,
    /// The backend closed the connection before it answered.
    BackendClosed,
    /// The backend's answer breaks the protocol.
    BadResponse,
    /// The backend did not answer in time.
    ResponseTimeout,
    /// The listener has as many connections as it may; this one was closed unanswered.
    TooManyConnections,
    /// The client and we did not agree on TLS; the connection was closed.
    TlsHandshake,
    /// The backend's certificate is not trusted, or TLS with it failed.
    BackendTls,
    /// As many requests wait for a place as may: the upstream's limits.
    QueueFull,
    /// No place was free in time: the upstream's limits.
    QueueTimeout,
    /// The connection did not begin with a PROXY protocol header; it was closed.
    ProxyHeader,
}

impl Refusal {
    /// Every refusal's counter, status and message, in the order of [`Refusal::index`].
    const TABLE: [(&'static str, u16, &'static str); Self::COUNT] = [
        ("bad_request", 400, "the request is malformed"),
        ("header_timeout", 408, "the request's head did not arrive in time"),
        ("body_timeout", 408, "the request's body did not arrive in time"),
        ("header_too_large", 431, "the request's head is too large"),
        ("body_too_large", 413, "the request's body is too large"),
        ("unknown_transfer_coding", 501, "only the chunked transfer coding is served"),
        ("unknown_version", 505, "only HTTP/1.0 and HTTP/1.1 are served"),
        ("unknown_method", 501, "the method is not served"),
        ("no_route", 404, "no route matches the request"),
        ("no_backend", 503, "no backend is available"),
        ("connect_failed", 502, "the backend could not be reached"),
        ("connect_timeout", 504, "the backend could not be reached in time"),
        ("backend_closed", 502, "the backend closed the connection before it answered"),
        ("bad_response", 502, "the backend's answer is malformed"),
        ("response_timeout", 504, "the backend did not answer in time"),
        ("too_many_connections", 503, "too many connections"),
        ("tls_handshake", 400, "the TLS handshake failed"),
        ("backend_tls", 502, "TLS with the backend failed"),
        ("queue_full", 503, "too many requests wait for a backend"),
        ("queue_timeout", 503, "no place at a backend was free in time"),
        ("proxy_header", 400, "the connection does not begin with a PROXY protocol header"),
    ];

    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every kind, in the order of [`Refusal::index`].
    pub const ALL: [Self; 21] = [
        Self::BadRequest("the request is malformed; the message says how"),
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::HeaderTooLarge,
        Self::BodyTooLarge,
        Self::UnknownTransferCoding,
        Self::UnknownVersion,
        Self::UnknownMethod,
        Self::NoRoute,
        Self::NoBackend,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::BackendClosed,
        Self::BadResponse,
        Self::ResponseTimeout,
        Self::TooManyConnections,
        Self::TlsHandshake,
        Self::BackendTls,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::ProxyHeader,
    ];

    /// The place of its counter, below [`Refusal::COUNT`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::BadRequest(_) => 0,
            Self::HeaderTimeout => 1,
            Self::BodyTimeout => 2,
            Self::HeaderTooLarge => 3,
            Self::BodyTooLarge => 4,
            Self::UnknownTransferCoding => 5,
            Self::UnknownVersion => 6,
            Self::UnknownMethod => 7,
            Self::NoRoute => 8,
            Self::NoBackend => 9,
            Self::ConnectFailed => 10,
            Self::ConnectTimeout => 11,
            Self::BackendClosed => 12,
            Self::BadResponse => 13,
            Self::ResponseTimeout => 14,
            Self::TooManyConnections => 15,
            Self::TlsHandshake => 16,
            Self::BackendTls => 17,
            Self::QueueFull => 18,
            Self::QueueTimeout => 19,
            Self::ProxyHeader => 20,
        }
    }

    /// Its name in metrics, logs and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The status code that the client sees.
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().1
    }

    /// The sentence that the client reads.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::BadRequest(how) => how,
            _ => self.row().2,
        }
    }

    /// Whether what the client sent cannot be trusted to end where it seems to, or has not arrived
    /// in whole: the connection is closed after the answer.
    #[must_use]
    pub fn closes(self) -> bool {
        matches!(self.status(), 400 | 408 | 413 | 431 | 501 | 505)
    }

    fn row(self) -> (&'static str, u16, &'static str) {
        Self::TABLE.get(self.index()).copied().unwrap_or(("unknown", 500, "refused"))
    }
}

/// The reason phrase of a status that Weir itself answers with.
#[must_use]
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        401 => "Unauthorized",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        410 => "Gone",
        429 => "Too Many Requests",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_row_and_its_status_a_phrase() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), index, "{refusal:?}");
            assert_ne!(reason_phrase(refusal.status()), "Error", "{refusal:?}");
        }
    }
}
