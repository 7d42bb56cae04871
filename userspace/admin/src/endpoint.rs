//! The registry of endpoints: what is asked, and who answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::api::Problem;
use crate::{
    Running, allow, ban_stats, ban_watch, bans, control, guard, metrics, probes, status, vips,
};

/// A request to the admin side, read in whole.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What follows the endpoint's path, without the slash between them.
    pub(crate) rest: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    /// Whether it came over the unix socket: from a command line on this host.
    pub(crate) is_local: bool,
    pub(crate) body: Bytes,
}

impl Request {
    /// Whether `key` is set in the query, to anything but `0`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.parameter(key).is_some_and(|value| value != "0")
    }

    /// The value of `key` in the query; names of lists need no escapes.
    pub(crate) fn parameter(&self, key: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "1"));
            (name == key).then_some(value)
        })
    }
}

/// An answer of the admin side.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: AnswerBody,
}

/// What an answer consists of.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    Whole(Option<Bytes>),
    /// As it comes, until the sender ends.
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(lines) => {
                lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl Answer {
    pub(crate) fn json(value: &impl Serialize) -> Self {
        // These types have string keys and no maps that could fail.
        let body = serde_json::to_vec(value).unwrap_or_default();
        let body = AnswerBody::Whole(Some(body.into()));
        Self { status: StatusCode::OK, content_type: "application/json", body }
    }

    pub(crate) fn problem(status: StatusCode, message: impl Into<String>) -> Self {
        Self::problem_with(status, message, Vec::new())
    }

    pub(crate) fn problem_with(
        status: StatusCode,
        message: impl Into<String>,
        fields: Vec<String>,
    ) -> Self {
        Self { status, ..Self::json(&Problem { message: message.into(), fields }) }
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self { status: StatusCode::OK, content_type, body: AnswerBody::Whole(Some(text.into())) }
    }

    /// A JSON object a line, as they come.
    pub(crate) fn lines(lines: mpsc::Receiver<Bytes>) -> Self {
        let body = AnswerBody::Stream(lines);
        Self { status: StatusCode::OK, content_type: "application/x-ndjson", body }
    }
}

/// How an endpoint answers: at once, or after the main loop did something.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answer>>>;

/// What the admin side answers to.
#[derive(Debug)]
pub struct Endpoint {
    /// Of the request.
    pub method: Method,
    /// Of the request; what stands in braces is any argument.
    pub path: &'static str,
    /// Where it is served.
    pub port: Port,
    /// One sentence for the reference.
    pub summary: &'static str,
    pub(crate) answer: fn(Rc<Running>, Request) -> Answering,
}

/// The two ports of the admin side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The admin API: loopback and unix socket, changes things.
    Admin,
    /// The status port: for probes and scrapers, changes nothing.
    Status,
}

/// Every endpoint.
pub static ENDPOINTS: &[Endpoint] = &[
    status::GET,
    bans::GET,
    bans::POST,
    bans::DELETE,
    bans::TEST,
    ban_stats::GET,
    ban_watch::GET,
    vips::GET,
    vips::MOVE,
    vips::EXPLAIN,
    guard::GET,
    guard::SET,
    guard::LEARN,
    allow::GET,
    allow::POST,
    allow::DELETE,
    control::RELOAD,
    control::UPGRADE,
    control::STOP,
    metrics::GET,
    probes::LIVE,
    probes::READY,
];

/// An endpoint that answers at once.
pub(crate) fn at_once(answer: Answer) -> Answering {
    Box::pin(std::future::ready(answer))
}

/// What comes of a request line on a port.
pub(crate) enum Found {
    Endpoint(&'static Endpoint, String),
    WrongMethod,
    Nothing,
}

/// The endpoint that answers to `method path` on `port`.
pub(crate) fn find(port: Port, method: &Method, path: &str) -> Found {
    let mut found = Found::Nothing;
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.port == port) {
        let (fixed, argument) = endpoint.path.split_once('{').unwrap_or((endpoint.path, ""));
        let rest = match path.strip_prefix(fixed) {
            Some(rest) if rest.is_empty() == argument.is_empty() => rest,
            _ => continue,
        };
        if endpoint.method == *method {
            return Found::Endpoint(endpoint, rest.to_owned());
        }
        found = Found::WrongMethod;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_find_their_endpoint() {
        for (port, method, path, expected) in [
            (Port::Admin, Method::GET, "/bans", Some("/bans")),
            (Port::Admin, Method::DELETE, "/bans", Some("/bans")),
            (Port::Admin, Method::GET, "/bans/test/192.0.2.1", Some("/bans/test/{ip}")),
            (Port::Admin, Method::GET, "/bans/test/", None),
            (Port::Admin, Method::PUT, "/bans", None),
            (Port::Admin, Method::GET, "/metrics", None),
            (Port::Status, Method::GET, "/metrics", Some("/metrics")),
            (Port::Status, Method::GET, "/bans", None),
        ] {
            let found = match find(port, &method, path) {
                Found::Endpoint(endpoint, _) => Some(endpoint.path),
                Found::WrongMethod | Found::Nothing => None,
            };
            assert_eq!(found, expected, "{method} {path}");
        }
    }

    #[test]
    fn no_endpoint_twice() {
        for (index, endpoint) in ENDPOINTS.iter().enumerate() {
            let same = |other: &&Endpoint| {
                (&other.method, other.path, other.port)
                    == (&endpoint.method, endpoint.path, endpoint.port)
            };
            assert_eq!(ENDPOINTS.iter().position(|other| same(&other)), Some(index));
        }
    }
}
