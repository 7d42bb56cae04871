//! What a client may take up: time, bytes, connections.

use std::io::Read;
use std::time::{Duration, Instant};

use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;

fn with_listener(keys: &str) -> (Backend, Balancer) {
    let backend = Backend::start("b");
    let weir = Balancer::start(&balancer::with(&[backend.address], keys, ""));
    (backend, weir)
}

#[test]
fn a_head_that_drips_is_answered_408() {
    let (_backend, weir) = with_listener(", timeouts: { header: 200ms }");
    let mut client = Client::connect(weir.address("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    let began = Instant::now();
    assert_eq!(client.response().status, 408);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(client.is_closed());
}

#[test]
fn a_client_that_says_nothing_is_closed() {
    let (_backend, weir) = with_listener(", timeouts: { header: 200ms, idle: 300ms }");
    assert!(Client::connect(weir.address("web")).is_closed());
    let mut client = Client::connect(weir.address("web"));
    assert_eq!(client.get("/").status, 200);
    assert!(client.is_closed(), "idle");
}

#[test]
fn a_body_that_stalls_is_answered_408() {
    let (_backend, weir) = with_listener(", timeouts: { body: 200ms }");
    let mut client = Client::connect(weir.address("web"));
    client.send("POST /status/200 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    assert_eq!(client.response().status, 408);
    assert!(client.is_closed());
}

#[test]
fn a_reader_that_stalls_is_cut() {
    let (_backend, weir) = with_listener(", timeouts: { write: 200ms }");
    let mut client = Client::connect(weir.address("web"));
    client.send("GET /bytes/200000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_until("the slow reader is cut", |status| status["listeners"][0]["connections"] == 0);
    let mut stream = client.stream();
    let read = stream.read_to_end(&mut Vec::new());
    assert!(read.is_err() || read.is_ok_and(|read| read < 200_000_000));
}

#[test]
fn sizes() {
    let (backend, weir) =
        with_listener(", limits: { header-size: 2KiB, headers: 5, body-size: 10B }");
    let status = |request: String| {
        let mut client = Client::connect(weir.address("web"));
        client.send(request);
        client.response().status
    };
    let head = "POST / HTTP/1.1\r\nHost: a\r\n";
    let long = "a".repeat(3_000);
    assert_eq!(status(format!("{head}X: {long}\r\n\r\n")), 431);
    assert_eq!(status(format!("{head}{}\r\n", "X: a\r\n".repeat(5))), 431);
    assert_eq!(status(format!("{head}Content-Length: 11\r\n\r\n")), 413);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(format!("{head}{chunked}b\r\nhello world\r\n0\r\n\r\n")), 413);
    assert_eq!(backend.requests(), 0);
    assert_eq!(status(format!("{head}{chunked}a\r\nhelloworld\r\n0\r\n\r\n")), 200);
    assert_eq!(status(format!("{head}Content-Length: 10\r\n\r\nhelloworld")), 200);
}

#[test]
fn a_large_head_within_the_limit_passes() {
    let (_backend, weir) = with_listener(", limits: { header-size: 256KiB }");
    let mut client = Client::connect(weir.address("web"));
    let long = "a".repeat(100_000);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\nY: {long}\r\n\r\n"));
    // The origin's own limit may refuse it; Weir's must not.
    let status = client.response().status;
    assert!(status == 200 || status == 431, "{status}");
    let refused = weir.status()["requests"]["refused"].as_array().unwrap().len();
    assert_eq!(refused, 0);
}

#[test]
fn connections_above_the_limit_are_closed_and_counted() {
    let (_backend, weir) = with_listener(", limits: { connections: 2 }");
    let address = weir.address("web");
    let mut first = Client::connect(address);
    let mut second = Client::connect(address);
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    assert!(Client::connect(address).is_closed());
    drop(first);
    weir.wait_until("a place is free", |status| status["listeners"][0]["connections"] == 1);
    assert_eq!(Client::connect(address).get("/").status, 200);
    assert_eq!(weir.status()["requests"]["refused"][0]["reason"], "too_many_connections");
}

#[test]
fn the_last_request_of_a_connection_says_so() {
    let (_backend, weir) = with_listener(", limits: { requests: 2 }");
    let mut client = Client::connect(weir.address("web"));
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(client.get("/").header("connection"), Some("close"));
    assert!(client.is_closed());
    let backend = Backend::start("b");
    let sections = balancer::with(&[backend.address], ", limits: { requests: 2 }", "");
    let own = "routes: [{ name: own, paths: [/own], respond: { body: ours } }, ";
    let weir = Balancer::start(&sections.replace("routes: [", own));
    let mut client = Client::connect(weir.address("web"));
    assert_eq!(client.get("/own").header("connection"), None);
    assert_eq!(client.get("/own").header("connection"), Some("close"));
    assert!(client.is_closed());
}
