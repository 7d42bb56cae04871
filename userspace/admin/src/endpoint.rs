//! The registry of endpoints: what is asked, and who answers.

use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Serialize;

use crate::api::Problem;
use crate::{Running, allow, bans, control, metrics, probes, status};

/// A request to the admin side, read in whole.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What follows the endpoint's path, without the slash between them.
    pub(crate) rest: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
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
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(value: &impl Serialize) -> Self {
        // These types have string keys and no maps that could fail.
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self { status: StatusCode::OK, content_type: "application/json", body: body.into() }
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
        Self { status: StatusCode::OK, content_type, body: text.into() }
    }
}

/// How an endpoint answers: at once, or after the main loop did something.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answer>>>;

/// What the admin side answers to.
#[derive(Debug)]
pub struct Endpoint {
    /// Of the request.
    pub method: Method,
    /// Of the request; one that ends with `/` takes an argument behind it.
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
    allow::GET,
    allow::POST,
    allow::DELETE,
    control::RELOAD,
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
        let rest = match path.strip_prefix(endpoint.path) {
            Some(rest) if rest.is_empty() != endpoint.path.ends_with('/') => rest,
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
            (Port::Admin, Method::GET, "/bans/test/192.0.2.1", Some("/bans/test/")),
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
