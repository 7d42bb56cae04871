//! HTTP/2 through Weir, on either side: bodies, trailers, heads, and what becomes of each message.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use weir_tests::backend::{Backend, Speaks, pattern};
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client as Http1;
use weir_tests::http2::{self, Client, post, run};
use weir_tests::raw_backend::{RawBackend, Step};
use weir_tests::tls::{ANY_VERSION, Authority, connect};

const NAME: &str = "a.example";
const BOTH: &str = ", protocols: [http1, http2]";
const TO_HTTP2: &str = ", protocol: http2";

/// A balancer that speaks both versions, in front of a backend of HTTP/1.1.
fn with_backend() -> (Backend, Balancer) {
    let backend = Backend::start("b");
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, ""));
    (backend, weir)
}

/// The same in front of a backend of HTTP/2.
fn with_http2_backend() -> (Backend, Balancer) {
    let backend = Backend::start_speaking("b", Speaks { http2: true, tls: None });
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, TO_HTTP2));
    (backend, weir)
}

/// The same in front of a scripted backend of HTTP/1.1.
fn with_script(scripts: Vec<Vec<Step>>) -> (RawBackend, Balancer) {
    let backend = RawBackend::start(scripts);
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, ""));
    (backend, weir)
}

fn script(answer: &str) -> Vec<Step> {
    vec![Step::ReadUntil(b"\r\n\r\n"), Step::Send(answer.as_bytes().to_vec())]
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(name, HeaderValue::from_static(value));
    map
}

#[test]
fn every_combination_of_versions_and_tls() {
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &[NAME, "127.0.0.1"]);
    for (http2, tls) in [(false, false), (false, true), (true, false), (true, true)] {
        let alpn: &[&str] = if http2 { &["h2"] } else { &["http/1.1"] };
        let server = tls.then(|| Arc::new(Authority::server(&leaf, None, alpn)));
        let backend = Backend::start_speaking("b", Speaks { http2, tls: server });
        let protocol = if http2 { TO_HTTP2 } else { "" };
        let ca = format!(", tls: {{ ca: \"{}\" }}", authority.pem().display());
        let service = format!("{protocol}{}", if tls { &ca } else { "" });
        let second = format!(
            "listeners: [{{ name: tls, address: \"127.0.0.2:0\"{BOTH}, \
             tls: {{ certificates: [{leaf}] }} }}, "
        );
        let sections = balancer::with(&[backend.address], BOTH, &service);
        let weir = Balancer::start(&sections.replace("listeners: [", &second));
        let (plain, secure) = (weir.address("web"), weir.address("tls"));
        let config = authority.client(ANY_VERSION, None);
        let mut one = Http1::connect(plain);
        let mut other = connect(secure, NAME, &Arc::new(config.clone())).unwrap();
        let sent = pattern(300_000, "one");
        let request =
            format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 300_000);
        one.send([request.as_bytes(), &sent].concat());
        assert_eq!(one.response().body, sent);
        assert_eq!(one.get("/pattern/300000/two").body, pattern(300_000, "two"));
        assert_eq!(other.get("/pattern/300000/two").body, pattern(300_000, "two"));
        let head = other.get("/headers").text();
        assert!(head.contains("x-forwarded-proto: https\n"), "{head}");
        // A backend learns from the URI how it was reached itself.
        let own_scheme = if tls { "https://" } else { "http://" };
        assert!(!http2 || head.contains(&format!("GET {own_scheme}")), "{head}");
        run(async {
            let plain = Client::connect(plain).await;
            let secure = Client::connect_tls(secure, NAME, config).await;
            for client in [plain, secure] {
                for size in [0, 1, 65_536, 1_000_000] {
                    let body = Bytes::from(pattern(size, "three"));
                    let answer = client.post(post("/echo"), body.clone(), None).await.unwrap();
                    assert!(answer.status == 200 && answer.body == body, "{size}");
                    let answer = client.get(&format!("/pattern/{size}/four")).await;
                    assert!(answer.body == pattern(size, "four"), "{size}");
                    let answer = client.get(&format!("/chunked/{size}")).await;
                    assert!(answer.body == vec![b'y'; size], "{size}");
                }
            }
        });
    }
}

#[test]
fn ten_mebibytes_both_ways() {
    const SIZE: usize = 10 * 1024 * 1024;
    for (_backend, weir) in [with_backend(), with_http2_backend()] {
        run(async {
            let client = Client::connect(weir.address("web")).await;
            let body = Bytes::from(pattern(SIZE, "large"));
            let answer = client.post(post("/echo"), body.clone(), None).await.unwrap();
            assert!(answer.body == body);
            let mut request = post("/echo");
            request.headers_mut().insert("content-length", SIZE.into());
            let answer = client.post(request, body.clone(), None).await.unwrap();
            assert!(answer.body == body);
            assert!(client.get(&format!("/pattern/{SIZE}/large")).await.body == body);
        });
    }
}

#[test]
fn trailers_pass_from_and_to_either_version() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                  3\r\nabc\r\n0\r\nx-sum: 6\r\nX-Other:  y \r\n\r\n";
    let mut steps = vec![Step::ReadUntil(b"x-check: 1\r\n\r\n")];
    steps.push(Step::Send(answer.as_bytes().to_vec()));
    let (backend, weir) = with_script(vec![steps]);
    run(async {
        let client = Client::connect(weir.address("web")).await;
        let sent = client.post(post("/"), Bytes::from("xy"), Some(trailers("x-check", "1")));
        let answer = sent.await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "abc"));
        let trailers = answer.trailers.unwrap();
        assert!(trailers["x-sum"] == "6" && trailers["x-other"] == "y", "{trailers:?}");
    });
    drop(weir);
    let received = String::from_utf8(backend.received()).unwrap();
    assert!(received.ends_with("\r\n\r\n2\r\nxy\r\n0\r\nx-check: 1\r\n\r\n"), "{received}");
    let (_backend, weir) = with_http2_backend();
    run(async {
        let client = Client::connect(weir.address("web")).await;
        for body in ["", "some"] {
            let sent = client.post(post("/echo"), body.into(), Some(trailers("x-check", "2")));
            let answer = sent.await.unwrap();
            assert_eq!(answer.text(), body);
            assert_eq!(answer.trailers.unwrap()["x-check"], "2");
        }
    });
    // And to a client of HTTP/1.1.
    let mut client = Http1::connect(weir.address("web"));
    client.send(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nab\r\n0\r\nx-check: 3\r\n\r\n",
    );
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n0\r\nx-check: 3\r\n\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(client.stream_mut(), &mut byte).unwrap();
        bytes.push(byte[0]);
    }
}

#[test]
fn a_client_that_expects_continue_is_told_before_it_sends() {
    let (_backend, weir) = with_script(vec![vec![
        Step::ReadUntil(b"\r\n\r\n"),
        Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        Step::ReadUntil(b"hello"),
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
    ]]);
    run(async {
        let client = Client::connect(weir.address("web")).await;
        let mut request = post("/");
        request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
        request.headers_mut().insert("content-length", 5.into());
        let (mut response, stream) = client.open(request, false).await.unwrap();
        let told = std::future::poll_fn(|context| response.poll_informational(context)).await;
        assert_eq!(told.unwrap().unwrap().status(), 100);
        http2::send_body(stream, Bytes::from("hello"), None).await.unwrap();
        assert_eq!(http2::read(response).await.unwrap().text(), "ok");
    });
}

#[test]
fn answers_before_the_answer_are_passed_on() {
    let (_backend, weir) = with_script(vec![script(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    )]);
    let backend = http2::Backend::answering(|(_, mut respond)| async move {
        let hints = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        respond.send_informational(hints).unwrap();
        respond.send_response(Response::new(()), true).unwrap();
    });
    let other = Balancer::start(&balancer::with(&[backend.address], BOTH, TO_HTTP2));
    for weir in [&weir, &other] {
        run(async {
            let answer = Client::connect(weir.address("web")).await.get("/").await;
            assert_eq!((answer.status, answer.interim.len()), (200, 1));
            assert_eq!(answer.interim[0].status(), 103);
            assert_eq!(answer.interim[0].headers()["link"], "</a>");
        });
    }
    let mut client = Http1::connect(other.address("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.response().status, client.response().status), (103, 200));
}

#[test]
fn answers_without_a_body() {
    for (_backend, weir) in [with_backend(), with_http2_backend()] {
        run(async {
            let client = Client::connect(weir.address("web")).await;
            let head = Request::head("http://a.example/bytes/500").body(()).unwrap();
            let (response, _) = client.open(head, true).await.unwrap();
            let answer = http2::read(response).await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, 0));
            assert_eq!(answer.header("content-length"), Some("500"));
            for status in [204, 304] {
                let answer = client.get(&format!("/status/{status}")).await;
                assert_eq!((answer.status, answer.body.len()), (status, 0));
            }
            assert_eq!(client.get("/bytes/0").await.body.len(), 0);
            assert_eq!(client.get("/bytes/3").await.body.len(), 3);
        });
        let mut client = Http1::connect(weir.address("web"));
        client.send("HEAD /bytes/500 HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.try_response(true).unwrap();
        assert_eq!(answer.header("content-length"), Some("500"));
        assert_eq!((client.get("/status/204").status, client.get("/bytes/3").body.len()), (204, 3));
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nno\n";
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (_backend, weir) = with_script(vec![script(refusal), script(ok)]);
    run(async {
        let client = Client::connect(weir.address("web")).await;
        let body = Bytes::from(vec![0; 8 * 1024 * 1024]);
        let answer = client.post(post("/"), body, None).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (413, "no\n"));
        assert_eq!(client.get("/").await.text(), "ok", "the connection goes on");
    });
}

#[test]
fn heads_are_translated() {
    for (http2, (_backend, weir)) in [(false, with_backend()), (true, with_http2_backend())] {
        run(async {
            let client = Client::connect(weir.address("web")).await;
            let request = Request::get("http://A.Example:8000/headers?q=1")
                .header("cookie", "a=1")
                .header("x-twice", "1")
                .header("cookie", "b=2; c=3")
                .header("x-twice", "2")
                .header("te", "trailers")
                .header("host", "A.Example:8000")
                .header("x-forwarded-for", "192.0.2.9")
                .header("x-request-id", "mine-1");
            let (response, _) = client.open(request.body(()).unwrap(), true).await.unwrap();
            let answer = http2::read(response).await.unwrap();
            assert_eq!(answer.header("via"), Some("1.1 weir"));
            assert!(answer.headers.get("connection").is_none(), "{:?}", answer.headers);
            let head = answer.text();
            let mut lines: Vec<_> = head.lines().collect();
            lines.sort_unstable();
            let port = weir.address("web").port();
            let port = format!("x-forwarded-port: {port}");
            let mut expected = vec![
                "cookie: a=1; b=2; c=3",
                "x-twice: 1",
                "x-twice: 2",
                "x-forwarded-for: 192.0.2.9, 127.0.0.1",
                "x-forwarded-proto: http",
                "x-forwarded-host: A.Example:8000",
                "x-request-id: mine-1",
                &port,
            ];
            expected.extend(if http2 {
                ["GET http://A.Example:8000/headers?q=1", "te: trailers"]
            } else {
                ["GET /headers?q=1", "host: A.Example:8000"]
            });
            expected.sort_unstable();
            assert_eq!(lines, expected);
        });
    }
}

#[test]
fn refusals_are_json_with_an_id() {
    let backend = Backend::start("b");
    let sections =
        balancer::with(&[backend.address], &format!("{BOTH}, limits: {{ body-size: 1KiB }}"), "");
    let weir = Balancer::start(&sections.replace("service: s }", "service: s, paths: [/known] }"));
    run(async {
        let client = Client::connect(weir.address("web")).await;
        let answer = client.get("/unknown").await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (404, "no route matches the request")
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let two_hosts =
            Request::get("http://a.example/known").header("host", "b.example").body(()).unwrap();
        let (response, _) = client.open(two_hosts, true).await.unwrap();
        assert_eq!(http2::read(response).await.unwrap().status, 400);
        let large = client.post(post("/known"), Bytes::from(vec![0; 100_000]), None).await.unwrap();
        assert_eq!(large.status, 413);
        let connect = Request::connect("a.example:443").body(()).unwrap();
        let (response, _) = client.open(connect, false).await.unwrap();
        assert_eq!(http2::read(response).await.unwrap().status, 501);
        assert_eq!(client.get("/known").await.status, 200, "the connection goes on");
    });
}

#[test]
fn heads_are_limited() {
    let backend = Backend::start("b");
    let limits = format!("{BOTH}, limits: {{ header-size: 2KiB, headers: 20 }}");
    let weir = Balancer::start(&balancer::with(&[backend.address], &limits, ""));
    run(async {
        let client = Client::connect(weir.address("web")).await;
        let long = Request::get("http://a.example/").header("x", "y".repeat(4_000));
        let many = (0..30).fold(Request::get("http://a.example/"), |request, at| {
            request.header(format!("x-{at}"), "y")
        });
        for request in [long, many] {
            let (response, _) = client.open(request.body(()).unwrap(), true).await.unwrap();
            assert_eq!(http2::read(response).await.unwrap().status, 431);
        }
        assert_eq!(client.get("/").await.status, 200, "the connection goes on");
    });
    assert_eq!(backend.requests(), 1);
}

#[test]
fn many_streams_do_not_mix() {
    for (_backend, weir) in [with_backend(), with_http2_backend()] {
        run(async {
            let mut streams = Vec::new();
            for connection in 0..3 {
                let client = Arc::new(Client::connect(weir.address("web")).await);
                for stream in 0..100 {
                    let client = Arc::clone(&client);
                    streams.push(tokio::spawn(async move {
                        let (size, seed) = (stream * 211, format!("{connection}-{stream}"));
                        let expected = pattern(size, &seed);
                        let answer = client.get(&format!("/pattern/{size}/{seed}")).await;
                        assert!(answer.body == expected, "{seed}");
                        let sent = Bytes::from(expected.clone());
                        let answer = client.post(post("/echo"), sent, None).await.unwrap();
                        assert!(answer.body == expected, "{seed}");
                    }));
                }
            }
            for stream in streams {
                stream.await.unwrap();
            }
        });
    }
}
