//! `GET /live` and `GET /ready` of the status port.

use hyper::{Method, StatusCode};

use crate::endpoint::{Answer, Endpoint, Port, at_once};

pub(crate) const LIVE: Endpoint = Endpoint {
    method: Method::GET,
    path: "/live",
    port: Port::Status,
    summary: "200 while the process answers at all",
    answer: |_, _| at_once(Answer::text("live\n")),
};

pub(crate) const READY: Endpoint = Endpoint {
    method: Method::GET,
    path: "/ready",
    port: Port::Status,
    summary: "200 while requests are taken, 503 before the first configuration and while stopping",
    answer: |running, _| {
        at_once(if running.is_ready() {
            Answer::text("ready\n")
        } else {
            Answer { status: StatusCode::SERVICE_UNAVAILABLE, ..Answer::text("not ready\n") }
        })
    },
};
