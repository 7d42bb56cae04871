//! HTTP/1.1 through Weir: framing both ways, keep-alive, headers, refusals in JSON.

use std::io::Read;

use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;
use weir_tests::raw_backend::{RawBackend, Step};

use crate::get;

fn with_backend() -> (Backend, Balancer, Client) {
    let backend = Backend::start("b");
    let weir = Balancer::start(&balancer::simple(&[backend.address]));
    let client = Client::connect(weir.address("web"));
    (backend, weir, client)
}

/// A balancer in front of a scripted backend.
fn with_script(scripts: Vec<Vec<Step>>) -> (RawBackend, Balancer, Client) {
    let backend = RawBackend::start(scripts);
    let weir = Balancer::start(&balancer::simple(&[backend.address]));
    let client = Client::connect(weir.address("web"));
    (backend, weir, client)
}

fn answer(bytes: &str) -> Vec<Step> {
    vec![Step::ReadUntil(b"\r\n\r\n"), Step::Send(bytes.as_bytes().to_vec())]
}

#[test]
fn one_connection_serves_many_requests_over_one_backend_connection() {
    let ok = || answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").into_iter();
    let script = ok().chain(ok()).chain(ok()).collect();
    let (_backend, _weir, mut client) = with_script(vec![script]);
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "ok");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_backend, _weir, mut client) = with_backend();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send([request("/slow/50"), request("/status/201"), request("/bytes/7")].concat());
    assert_eq!(client.response().text(), "slow\n");
    assert_eq!(client.response().status, 201);
    assert_eq!(client.response().body.len(), 7);
}

#[test]
fn bodies_pass_both_ways_in_both_framings() {
    let (_backend, _weir, mut client) = with_backend();
    for size in [0, 1, 4_096, 16_384, 100_000, 1_000_000] {
        assert_eq!(client.get(&format!("/bytes/{size}")).body, vec![b'x'; size], "{size}");
        assert_eq!(client.get(&format!("/chunked/{size}")).body, vec![b'y'; size], "{size}");
        let body: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send(&body);
        assert_eq!(client.response().body, body, "{size}");
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(1_000) {
            client.send(format!("{:x}\r\n", chunk.len()));
            client.send(chunk);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.response().body, body, "{size}");
    }
}

#[test]
fn a_large_body_both_ways_at_once_takes_little_memory() {
    const SIZE: usize = 64 * 1024 * 1024;
    let (_backend, weir, mut client) = with_backend();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    let mut writer = client.stream().try_clone().unwrap();
    let write = std::thread::spawn(move || {
        let block = vec![b'z'; 1024 * 1024];
        for _ in 0..SIZE / block.len() {
            std::io::Write::write_all(&mut writer, &block).unwrap();
        }
    });
    assert_eq!(client.response().body.len(), SIZE);
    write.join().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 40 * 1024, "{peak} KiB at most");
}

#[test]
fn a_large_body_that_falters_goes_on_as_it_comes() {
    const SIZE: usize = 1024 * 1024;
    let begun =
        [&b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n"[..], &[b'z'; SIZE - 9]].concat();
    let begun_size = begun.len();
    let (_backend, _weir, mut client) = with_script(vec![vec![
        Step::ReadUntil(b"\r\n\r\n"),
        Step::Send(begun),
        // Nothing more comes until the client has read what came before and says so.
        Step::ReadUntil(b"go on\r\n0\r\n\r\n"),
        Step::Send(b"the rest.".to_vec()),
        Step::ReadUntil(b"\r\n\r\n"),
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nsmall".to_vec()),
    ]]);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut read = vec![0; begun_size];
    std::io::Read::read_exact(&mut client.stream(), &mut read).unwrap();
    let head_end = read.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    client.send("5\r\ngo on\r\n0\r\n\r\n");
    // Our fields have made the head longer.
    let mut rest = vec![0; head_end + SIZE - begun_size];
    std::io::Read::read_exact(&mut client.stream(), &mut rest).unwrap();
    assert!(rest.ends_with(b"zthe rest."));
    assert_eq!(client.get("/").text(), "small");
}

#[test]
fn what_follows_a_large_post_is_served_whatever_its_size() {
    let (_backend, _weir, mut client) = with_backend();
    // Little room is given to what follows a post that was spliced.
    for size in [0, 1_000, 1_536, 2_000, 10_000, 20_000, 70_000] {
        for method in ["POST", "PUT"] {
            let large = "x".repeat(64 * 1024);
            client.send(format!(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n{large}"
            ));
            assert_eq!(client.response().body.len(), large.len());
            let (body, field) = ("y".repeat(size), "z".repeat(size.min(10_000)));
            client.send(format!("{method} /echo HTTP/1.1\r\nHost: a\r\nX: {field}\r\nContent-Length: {size}\r\n\r\n{body}"));
            assert_eq!(client.response().text(), body, "{method} {size}");
        }
    }
}

#[test]
fn head_has_the_length_and_no_body() {
    let (_backend, _weir, mut client) = with_backend();
    client.send("HEAD /bytes/500 HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.try_response(true).unwrap();
    assert_eq!(response.header("content-length"), Some("500"));
    assert_eq!(client.get("/status/204").status, 204);
    assert_eq!(client.get("/bytes/3").body.len(), 3);
}

#[test]
fn a_client_that_expects_continue_is_told_before_it_sends() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let script = vec![
        Step::ReadUntil(b"\r\n\r\n"),
        Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        Step::ReadUntil(b"hello"),
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
    ];
    let (_backend, _weir, mut client) = with_script(vec![script]);
    client.send(head);
    assert_eq!(client.response().status, 100);
    client.send("hello");
    assert_eq!(client.response().text(), "ok");
    // And a server that does so by itself.
    let (backend, _weir, mut client) = with_backend();
    client.send(head);
    assert_eq!(client.response().status, 100);
    client.send("hello");
    assert_eq!(client.response().status, 200);
    assert_eq!((client.get("/").status, backend.requests()), (200, 2));
}

#[test]
fn answers_before_the_answer_are_passed_on() {
    let (_backend, _weir, mut client) = with_script(vec![answer(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    )]);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.response();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
    assert_eq!(client.response().status, 200);
}

#[test]
fn an_answer_that_ends_with_the_connection_is_chunked_for_the_client() {
    let script = |text| {
        let mut script = answer(text);
        script.push(Step::Close);
        script
    };
    let text = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
    let (_backend, _weir, mut client) = with_script(vec![script(text), script(text)]);
    let response = client.get("/");
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.text(), "until the end");
    assert_eq!(client.get("/").text(), "until the end");
}

#[test]
fn an_old_client_gets_plain_bytes_and_the_end() {
    let (_backend, weir, _) = with_backend();
    let mut client = Client::connect(weir.address("web"));
    client.send("GET /chunked/5000 HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.body.len(), 5_000);
    let mut client = Client::connect(weir.address("web"));
    for _ in 0..2 {
        client.send("GET /bytes/9 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        assert_eq!(response.header("connection"), Some("keep-alive"));
        assert_eq!(response.body.len(), 9);
    }
}

#[test]
fn close_means_close_on_either_side() {
    let (_backend, weir, mut client) = with_backend();
    assert_eq!(client.get("/close").header("connection"), None, "the backend's affair");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().header("connection"), Some("close"));
    assert!(client.is_closed());
    drop(weir);
}

#[test]
fn the_backend_learns_of_the_client_and_not_of_its_connection() {
    let (_backend, weir, mut client) = with_backend();
    client.send(
        "GET /headers?q=1 HTTP/1.1\r\nHost: A.Example:8000\r\nConnection: keep-alive, X-Secret\r\n\
         X-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: websocket\r\n\
         Proxy-Connection: keep-alive\r\nX-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Request-Id: mine-1\r\nAccept: */*\r\n\r\n",
    );
    let head = client.response().text();
    let port = weir.address("web").port();
    let expected = format!(
        "GET /headers?q=1\nhost: A.Example:8000\naccept: */*\nx-forwarded-for: 192.0.2.9, 127.0.0.1\n\
         x-forwarded-proto: http\nx-forwarded-port: {port}\nx-forwarded-host: A.Example:8000\n\
         x-request-id: mine-1\n"
    );
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&head), sorted(&expected));
}

#[test]
fn the_client_learns_of_weir_and_not_of_the_backends_connection() {
    let (_backend, _weir, mut client) = with_script(vec![answer(
        "HTTP/1.1 200 Fine\r\nKeep-Alive: 5\r\nConnection: x\r\nX: 1\r\nA: 2\r\ncontent-length: 0\r\n\r\n",
    )]);
    let headers = client.get("/").headers;
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "content-length", "via"]);
}

#[test]
fn ids_are_made_where_there_are_none_and_replaced_where_they_are_odd() {
    let (_backend, _weir, mut client) = with_backend();
    let mut id_of = |field: &str| {
        client.send(format!("GET /headers HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
        let text = client.response().text();
        text.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned()
    };
    let (first, second) = (id_of(""), id_of(""));
    assert_ne!(first, second);
    assert_eq!(first.len(), 32);
    assert_eq!(id_of("X-Request-Id: \"quoted\"\r\n").len(), 32);
}

#[test]
fn refusals_are_json_with_an_id() {
    let backend = Backend::start("b");
    let weir = Balancer::start(
        &balancer::simple(&[backend.address])
            .replace("service: s }", "service: s, paths: [/known] }"),
    );
    let mut client = Client::connect(weir.address("web"));
    let response = client.get("/unknown");
    assert_eq!(response.status, 404);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["message"], "no route matches the request");
    assert_eq!(body["request_id"].as_str().unwrap().len(), 32);
    assert_eq!(client.get("/known").status, 200, "the connection goes on");
}

/// A body that nobody wanted must not be read as the next request.
#[test]
fn the_body_of_a_refused_request_goes_with_it() {
    let backend = Backend::start("b");
    let weir = Balancer::start(
        &balancer::simple(&[backend.address])
            .replace("service: s }", "service: s, paths: [/known] }"),
    );
    let smuggled = "GET /known HTTP/1.1\r\nHost: a\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
            smuggled.len()
        ),
    ] {
        let mut client = Client::connect(weir.address("web"));
        assert_eq!(client.get("/known").status, 200);
        let before = backend.requests();
        client.send(format!("POST /unknown HTTP/1.1\r\nHost: a\r\n{framing}"));
        assert_eq!(client.response().status, 404);
        client.send("GET /unknown/too HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 404);
        assert_eq!(backend.requests(), before, "what was a body has become a request");
    }
}

#[test]
fn every_refusal_has_the_id_of_its_own_request() {
    let weir = Balancer::start("listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n");
    let mut client = Client::connect(weir.address("web"));
    let mut id_of = |field: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
        let body: serde_json::Value = serde_json::from_slice(&client.response().body).unwrap();
        body["request_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id_of("X-Request-Id: mine\r\n"), "mine");
    let (first, second) = (id_of(""), id_of(""));
    assert!(first != second && first != "mine" && second.len() == 32, "{first} {second}");
}

#[test]
fn what_backends_do_wrong_is_answered_with_502_and_504() {
    for (answer_text, status) in [
        ("nonsense\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", 502),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx", 502),
        ("HTTP/1.1 200 OK\nbare: lf\n\n", 502),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nhalf: a", 502),
    ] {
        let mut script = answer(answer_text);
        script.push(Step::Close);
        let (_backend, _weir, mut client) = with_script(vec![script]);
        assert_eq!(client.get("/").status, status, "{answer_text:?}");
    }
    let backend = RawBackend::start(vec![vec![Step::ReadUntil(b"never")]]);
    let weir =
        Balancer::start(&balancer::with(&[backend.address], "", ", timeouts: { response: 100ms }"));
    assert_eq!(get(weir.address("web"), "/").status, 504);
}

#[test]
fn an_answer_that_breaks_off_is_cut_and_not_completed() {
    let mut script = answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    script.push(Step::Close);
    let (_backend, _weir, mut client) = with_script(vec![script]);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response(false).is_err());
    let mut script = answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    script.push(Step::Close);
    let (_backend, _weir, client) = with_script(vec![script]);
    let mut stream = client.stream();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let end = stream.read_to_end(&mut Vec::new());
    assert!(end.is_err(), "an old client must see a reset, not an end");
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    for body in [
        "content-length: 3\r\n\r\nno\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nno\n\r\n0\r\n\r\n",
    ] {
        let refusal = format!("HTTP/1.1 413 Content Too Large\r\n{body}");
        let (_backend, _weir, mut client) = with_script(vec![answer(&refusal)]);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin");
        let response = client.response();
        assert_eq!((response.status, response.text()), (413, "no\n".to_owned()));
        assert_eq!(response.header("connection"), Some("close"));
        assert!(client.is_closed(), "what is left of the request cannot be told from the next");
    }
}
