//! Requests are spread, and survive backends that don't.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;
use weir_tests::raw_backend::{RawBackend, Step};

/// An address where nobody listens; not one of those from which other tests take free ports.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.77.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn round_robin_is_exact_over_connections_and_reactors() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let weir = Balancer::start(&balancer::simple(&[a.address, b.address]));
    let address = weir.address("web");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                for _ in 0..25 {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
    });
    assert_eq!((a.requests(), b.requests()), (100, 100));
}

#[test]
fn weights_are_shares() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let sections = balancer::simple(&[a.address]).replace(
        &format!("\"{}\"", a.address),
        &format!("{{ address: \"{}\", weight: 300 }}, \"{}\"", a.address, b.address),
    );
    let weir = Balancer::start(&sections);
    let mut client = Client::connect(weir.address("web"));
    (0..40).for_each(|_| drop(client.get("/")));
    assert_eq!((a.requests(), b.requests()), (30, 10));
}

#[test]
fn least_requests_avoids_the_busy_one() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let sections = balancer::simple(&[a.address, b.address])
        .replace("name: u,", "name: u, algorithm: least-requests,");
    let weir = Balancer::start(&sections);
    let mut busy = Client::connect(weir.address("web"));
    busy.send("GET /slow/3000 HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_until("the slow request is open", |status| {
        let backends = status["upstreams"][0]["backends"].as_array().unwrap();
        backends.iter().any(|backend| backend["open"] == 1)
    });
    let slow_at_a = a.requests() == 1;
    let mut client = Client::connect(weir.address("web"));
    (0..10).for_each(|_| drop(client.get("/")));
    let idle = if slow_at_a { &b } else { &a };
    assert_eq!(idle.requests(), 10);
}

#[test]
fn a_backend_that_cannot_be_reached_costs_no_request() {
    let a = Backend::start("a");
    let weir = Balancer::start(&balancer::simple(&[nobody(), a.address, nobody()]));
    let mut client = Client::connect(weir.address("web"));
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(a.requests(), 10);
}

#[test]
fn no_backend_at_all_is_502_and_the_connection_goes_on() {
    let weir = Balancer::start(&balancer::simple(&[nobody()]));
    let mut client = Client::connect(weir.address("web"));
    assert_eq!((client.get("/").status, client.get("/").status), (502, 502));
}

#[test]
fn an_idle_connection_that_died_is_replaced() {
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let once = vec![Step::ReadUntil(b"\r\n\r\n"), Step::Send(ok), Step::Close];
    let backend = RawBackend::start(vec![once.clone(), once.clone(), once]);
    let weir = Balancer::start(&balancer::simple(&[backend.address]));
    let mut client = Client::connect(weir.address("web"));
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn a_get_is_sent_again_when_the_backend_dies_before_it_answers() {
    let dies = vec![Step::ReadUntil(b"\r\n\r\n"), Step::Close];
    let (dying, a) = (RawBackend::start(vec![dies]), Backend::start("a"));
    let weir = Balancer::start(&balancer::simple(&[dying.address, a.address]));
    let mut client = Client::connect(weir.address("web"));
    assert_eq!(client.get("/").header("x-backend"), Some("a"));
    assert_eq!(weir.status()["requests"]["retries"], 1);
}

#[test]
fn a_get_is_sent_again_once_only() {
    let dies = || RawBackend::start(vec![vec![Step::ReadUntil(b"\r\n\r\n"), Step::Close]]);
    let (first, second, a) = (dies(), dies(), Backend::start("a"));
    let weir = Balancer::start(&balancer::simple(&[first.address, second.address, a.address]));
    let mut client = Client::connect(weir.address("web"));
    assert_eq!(client.get("/").status, 502);
    assert_eq!(a.requests(), 0);
}

#[test]
fn a_post_that_may_have_been_acted_on_is_not_sent_again() {
    let dies = vec![Step::ReadUntil(b"hello"), Step::Close];
    let (dying, a) = (RawBackend::start(vec![dies]), Backend::start("a"));
    let weir = Balancer::start(&balancer::simple(&[dying.address, a.address]));
    let mut client = Client::connect(weir.address("web"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().status, 502);
    assert_eq!(a.requests(), 0);
}

#[test]
fn a_backend_is_as_fast_as_it_is_however_slow_its_client() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let sections = balancer::with(&[a.address, b.address], "", ", buffer-request: 64KiB");
    let weir = Balancer::start(&sections.replace("name: u,", "name: u, algorithm: peak-ewma,"));
    let mut client = Client::connect(weir.address("web"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh");
    std::thread::sleep(Duration::from_millis(800));
    client.send("i");
    let fast = client.response();
    let slow = client.get("/slow/300");
    assert_ne!(fast.header("x-backend"), slow.header("x-backend"), "the one not known yet");
    for _ in 0..5 {
        assert_eq!(client.get("/").header("x-backend"), fast.header("x-backend"));
    }
}
