//! Backends that fail in every way: each with the status that is promised, and another one's answer
//! where that does no harm.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_tests::backend::Backend;
use weir_tests::balancer::Balancer;
use weir_tests::client::{Client, Response};

use crate::get;

/// How a backend deals with every connection once it has read a head.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Says nothing.
    Hangs,
    /// Resets the connection.
    Resets,
    /// Ends the connection.
    Closes,
    /// Ends its direction in the middle of an answer.
    HalfCloses,
    /// Answers with this status, and keeps the connection.
    Answers(u16),
}

struct Bad {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

fn bad(manner: Manner) -> Bad {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, requests) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|it| it == 1) {
                head.push(byte[0]);
            }
            if head.is_empty() {
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            match manner {
                Manner::Hangs => held.push(stream),
                Manner::Resets => {
                    weir_net::reset_on_close(&stream).unwrap();
                }
                Manner::Closes => {}
                Manner::HalfCloses => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    held.push(stream);
                }
                Manner::Answers(status) => {
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        }
    });
    Bad { address, requests }
}

/// One service of these targets in their order, by priority: the first one gets what it can.
fn weir(targets: &[SocketAddr], service: &str, upstream: &str) -> Balancer {
    Balancer::start(&sections(targets, service, upstream))
}

fn sections(targets: &[SocketAddr], service: &str, upstream: &str) -> String {
    let target = |(index, address): (usize, &SocketAddr)| {
        format!("{{ address: \"{address}\", priority: {index} }}")
    };
    let targets: Vec<_> = targets.iter().enumerate().map(target).collect();
    format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: all, service: s }}]\n\
         services: [{{ name: s, upstream: u{service} }}]\n\
         upstreams: [{{ name: u, targets: [{}]{upstream} }}]\n",
        targets.join(", ")
    )
}

fn post(address: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"));
    client.response()
}

fn reason(weir: &Balancer, reason: &str) -> bool {
    let status = weir.status();
    let refused = status["requests"]["refused"].as_array().unwrap().clone();
    refused.iter().any(|it| it["reason"] == reason)
}

#[test]
fn each_failure_has_its_status_and_reason() {
    let timeouts = ", timeouts: { response: 200ms }, retries: { attempts: 0 }";
    for (manner, status, name) in [
        (Manner::Hangs, 504, "response_timeout"),
        (Manner::Resets, 502, "backend_closed"),
        (Manner::Closes, 502, "backend_closed"),
    ] {
        let weir = weir(&[bad(manner).address], timeouts, "");
        assert_eq!(get(weir.address("web"), "/").status, status, "{manner:?}");
        assert!(reason(&weir, name), "{manner:?}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let weir = weir(&[gone], timeouts, "");
    assert_eq!(get(weir.address("web"), "/").status, 502);
    assert!(reason(&weir, "connect_failed"));
}

#[test]
fn what_clients_do_wrong_is_no_failure_of_backends() {
    let backend = Backend::start("b");
    let weir = weir(&[backend.address], "", "");
    let mut client = Client::connect(weir.address("web"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n");
    weir.wait_until("it is on its way", |status| {
        status["upstreams"][0]["backends"][0]["requests"] == 1
    });
    client.send("hi, which is too long");
    assert_eq!(client.response().status, 400);
    let backend = &weir.status()["upstreams"][0]["backends"][0];
    assert_eq!(backend["failures"], 0, "{backend}");
}

#[test]
fn an_answer_that_breaks_off_is_a_cut() {
    let weir = weir(&[bad(Manner::HalfCloses).address], "", "");
    let mut client = Client::connect(weir.address("web"));
    assert!(client.try_get("/").is_err());
}

#[test]
fn what_may_be_repeated_is_answered_by_another() {
    let all = ", timeouts: { response: 5s }, \
               retries: { attempts: 2, on: [connect-failure, reset, timeout, 503], per-try: 200ms }";
    for manner in [Manner::Hangs, Manner::Resets, Manner::Closes, Manner::Answers(503)] {
        let (first, second) = (bad(manner), Backend::start("good"));
        let weir = weir(&[first.address, second.address], all, "");
        let response = get(weir.address("web"), "/");
        assert_eq!(response.header("x-backend"), Some("good"), "{manner:?}");
        assert_eq!(first.requests.load(Ordering::SeqCst), 1, "{manner:?}");
        // Whoever asked for something to be done is told, and asks again if he likes.
        let status = post(weir.address("web"), "/").status;
        assert!(matches!(status, 502..=504), "{manner:?}: {status}");
        assert_eq!(second.requests(), 1, "{manner:?}");
    }
}

#[test]
fn statuses_that_are_not_asked_for_pass() {
    let (first, second) = (bad(Manner::Answers(503)), Backend::start("good"));
    let weir = weir(&[first.address, second.address], "", "");
    assert_eq!(get(weir.address("web"), "/").status, 503);
    let other = ", retries: { attempts: 3, on: [500] }";
    let weir = self::weir(&[first.address, second.address], other, "");
    assert_eq!(get(weir.address("web"), "/").status, 503);
    assert_eq!(second.requests(), 0);
}

#[test]
fn retries_keep_to_their_budget() {
    let (first, second) = (bad(Manner::Closes), Backend::start("good"));
    let retries = ", retries: { attempts: 1, on: [reset], budget: 0% }";
    let weir = weir(&[first.address, second.address], retries, "");
    let mut statuses = Vec::new();
    for _ in 0..100 {
        statuses.push(get(weir.address("web"), "/").status);
    }
    let good = statuses.iter().filter(|status| **status == 200).count();
    // Three a second are allowed whatever the share; a hundred requests take a few seconds at most.
    assert!((1..=60).contains(&good), "{good} of 100 were retried");
    assert!(statuses.contains(&502));
}

#[test]
fn an_answer_that_cannot_be_retried_any_more_passes() {
    let (first, second) = (bad(Manner::Answers(503)), bad(Manner::Answers(503)));
    let retries = ", retries: { attempts: 1, on: [503], budget: 0% }";
    let weir = weir(&[first.address, second.address], retries, "");
    for _ in 0..30 {
        let response = get(weir.address("web"), "/");
        assert_eq!((response.status, response.header("content-length")), (503, Some("0")));
    }
}

#[test]
fn a_slow_backend_is_overtaken() {
    let (slow, fast) = (bad(Manner::Hangs), Backend::start("fast"));
    let weir = weir(&[slow.address, fast.address], ", hedge: 50ms", "");
    let began = Instant::now();
    let response = get(weir.address("web"), "/bytes/100000");
    assert_eq!((response.header("x-backend"), response.body.len()), (Some("fast"), 100_000));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(slow.requests.load(Ordering::SeqCst), 1);
    // One that is fast is not overtaken.
    let weir = self::weir(&[fast.address, slow.address], ", hedge: 5s", "");
    let mut client = Client::connect(weir.address("web"));
    for _ in 0..5 {
        assert_eq!(client.get("/").header("x-backend"), Some("fast"));
    }
    assert_eq!(slow.requests.load(Ordering::SeqCst), 1);
}

#[test]
fn what_was_answered_before_is_not_said_again_where_requests_are_hedged() {
    let backend = Backend::start("b");
    let sections = sections(&[backend.address], ", hedge: 5s", "");
    let own = "routes: [{ name: own, paths: [/own], respond: { body: ours } }, ";
    let weir = Balancer::start(&(sections.replace("routes: [", own) + "reactors: 1\n"));
    let address = weir.address("web");
    let mut client = Client::connect(address);
    for _ in 0..2 {
        assert_eq!(client.get("/own").text(), "ours");
        assert_eq!(client.get("/").header("x-backend"), Some("b"));
    }
    assert_eq!(client.get("/own").text(), "ours");
    // Nor to others.
    assert_eq!(get(address, "/").header("x-backend"), Some("b"));
}

#[test]
fn a_backend_that_is_overtaken_again_and_again_is_left_out() {
    let (slow, fast) = (bad(Manner::Hangs), Backend::start("fast"));
    let passive = ", health: { passive: { consecutive-errors: 3, base-ejection: 1h } }";
    let weir = weir(&[slow.address, fast.address], ", hedge: 50ms", passive);
    for _ in 0..5 {
        assert_eq!(get(weir.address("web"), "/").header("x-backend"), Some("fast"));
    }
    assert_eq!(slow.requests.load(Ordering::SeqCst), 3);
}

#[test]
fn a_second_attempt_that_fails_is_counted() {
    let (slow, gone) = (Backend::start("slow"), bad(Manner::Closes));
    let weir = weir(&[slow.address, gone.address], ", hedge: 20ms", "");
    assert_eq!(get(weir.address("web"), "/slow/500").header("x-backend"), Some("slow"));
    let backend = &weir.status()["upstreams"][0]["backends"][1];
    assert_eq!(backend["failures"], 1, "{backend}");
}

#[test]
fn the_same_backend_is_not_asked_twice_at_a_time() {
    let slow = Backend::start("slow");
    let weir = weir(&[slow.address], ", hedge: 20ms", "");
    assert_eq!(get(weir.address("web"), "/slow/300").status, 200);
    assert_eq!(slow.requests(), 1);
}

#[test]
fn a_backend_that_answers_badly_is_left_out() {
    let (first, second) = (bad(Manner::Answers(500)), Backend::start("good"));
    let passive = ", health: { passive: { consecutive-errors: 3, base-ejection: 1h } }";
    let weir = weir(&[first.address, second.address], "", passive);
    let statuses: Vec<_> = (0..6).map(|_| get(weir.address("web"), "/").status).collect();
    assert_eq!(statuses, [500, 500, 500, 200, 200, 200]);
    let backend = &weir.status()["upstreams"][0]["backends"][0];
    assert_eq!(backend["health"], "ejected");
}

#[test]
fn limits_make_requests_wait_and_then_refuse_them() {
    let backend = Backend::start("b");
    let limits = ", limits: { requests: 1, pending: 1 }";
    let weir = weir(&[backend.address], ", timeouts: { queue: 300ms }", limits);
    let address = weir.address("web");
    let mut first = Client::connect(address);
    first.send("GET /slow/150 HTTP/1.1\r\nHost: a\r\n\r\n");
    let deadline = Instant::now() + Duration::from_secs(10);
    while backend.requests() == 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let second = get(address, "/");
    assert_eq!((first.response().status, second.status), (200, 200), "it waited");
    first.send("GET /slow/2000 HTTP/1.1\r\nHost: a\r\n\r\n");
    while backend.requests() == 2 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let refused = get(address, "/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(reason(&weir, "queue_timeout"));
    assert_eq!(first.response().status, 200);
}

#[test]
fn connections_to_backends_are_limited() {
    let backend = Backend::start("b");
    let weir =
        weir(&[backend.address], ", timeouts: { queue: 5s }", ", limits: { connections: 2 }");
    let address = weir.address("web");
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send("GET /slow/50 HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!("0100007F:{:04X}", backend.address.port());
    let open = connections.lines().filter(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(2) == Some(&port.as_str()) && fields.get(3) == Some(&"01")
    });
    assert!(open.count() <= 2);
}

#[test]
fn a_request_may_take_so_long_in_all() {
    let backend = Backend::start("b");
    let weir = weir(&[backend.address], ", timeouts: { request: 200ms, response: 20s }", "");
    assert_eq!(get(weir.address("web"), "/slow/10000").status, 504);
    assert_eq!(get(weir.address("web"), "/").status, 200);
}

#[test]
fn clients_stay_with_the_backend_of_their_cookie() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let weir = Balancer::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: all, service: s }}]\n\
         services: [{{ name: s, upstream: u }}]\n\
         upstreams: [{{ name: u, targets: [\"{}\", \"{}\"], sticky: {{ cookie: stay, ttl: 1h }} }}]\n",
        a.address, b.address
    ));
    let mut client = Client::connect(weir.address("web"));
    let first = client.get("/");
    let set = first.header("set-cookie").unwrap().to_owned();
    assert!(set.contains("; Max-Age=3600") && set.contains("; HttpOnly"), "{set}");
    let cookie = set.split(';').next().unwrap();
    for _ in 0..6 {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.header("x-backend"), first.header("x-backend"));
        assert_eq!(response.header("set-cookie"), None);
    }
    client.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: stay=nonsense\r\n\r\n");
    assert!(client.response().header("set-cookie").is_some());
}

#[test]
fn a_hash_decides_alike_for_the_same_value() {
    let backends = [Backend::start("a"), Backend::start("b"), Backend::start("c")];
    let targets: Vec<_> = backends.iter().map(|it| format!("\"{}\"", it.address)).collect();
    for algorithm in ["consistent-hash", "maglev"] {
        let weir = Balancer::start(&format!(
            "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
             routes: [{{ name: all, service: s }}]\n\
             services: [{{ name: s, upstream: u }}]\n\
             upstreams: [{{ name: u, algorithm: {algorithm}, hash-on: {{ header: x-user }}, \
             targets: [{}] }}]\n",
            targets.join(", ")
        ));
        let mut client = Client::connect(weir.address("web"));
        let mut of = |user: usize| {
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\n\r\n"));
            client.response().header("x-backend").unwrap_or("").to_owned()
        };
        let first: Vec<_> = (0..30).map(&mut of).collect();
        assert_eq!((0..30).map(&mut of).collect::<Vec<_>>(), first, "{algorithm}");
        for name in ["a", "b", "c"] {
            assert!(first.iter().any(|it| it == name), "{algorithm}: {first:?}");
        }
    }
}
