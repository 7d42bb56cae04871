//! How streams and connections of HTTP/2 end: cancelled, reset, drained, idle, cut.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::Response;
use nix::sys::signal::Signal;
use weir_tests::backend::{Backend, Speaks};
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client as Http1;
use weir_tests::http2::{self, Client, get, post, run};
use weir_tests::raw_backend::{RawBackend, Step};

const BOTH: &str = ", protocols: [http1, http2]";
const TO_HTTP2: &str = ", protocol: http2";
const PATIENCE: Duration = Duration::from_secs(10);

fn with_listener(keys: &str) -> (Backend, Balancer) {
    let backend = Backend::start("b");
    let keys = format!("{BOTH}{keys}");
    let weir = Balancer::start(&balancer::with(&[backend.address], &keys, ""));
    (backend, weir)
}

/// A backend that answers nothing and tells of every stream that was reset.
fn with_silent_backend() -> (http2::Backend, Balancer, Receiver<Reason>) {
    let (sender, resets) = channel();
    let sender = Arc::new(Mutex::new(sender));
    let backend = http2::Backend::answering(move |(_, mut respond)| {
        let sender = Arc::clone(&sender);
        async move {
            let reset = std::future::poll_fn(|context| respond.poll_reset(context)).await;
            let _ = sender.lock().unwrap().send(reset.unwrap());
        }
    });
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, TO_HTTP2));
    (backend, weir, resets)
}

/// Waits until so many exchanges were cut.
fn cut(weir: &Balancer, count: u64) {
    let expected = format!("weir_cut_total {count}");
    let (address, deadline) = (weir.status_address(), Instant::now() + PATIENCE);
    loop {
        let metrics = crate::get(address, "/metrics").text();
        let line = metrics.lines().find(|line| line.starts_with("weir_cut_total")).unwrap();
        if line == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{line} instead of {count}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_client_that_cancels_cancels_at_the_backend() {
    let (_backend, weir, resets) = with_silent_backend();
    run(async {
        let client = Client::connect(weir.address("web")).await;
        let (response, _) = client.open(get("/"), true).await.unwrap();
        weir.wait_until("a request", |status| status["requests"]["total"] == 1);
        drop(response);
        let (response, mut stream) = client.open(post("/"), false).await.unwrap();
        weir.wait_until("a request", |status| status["requests"]["total"] == 2);
        stream.send_reset(Reason::CANCEL);
        drop(response);
        cut(&weir, 2);
    });
    for _ in 0..2 {
        assert_eq!(resets.recv_timeout(PATIENCE).unwrap(), Reason::CANCEL);
    }
}

#[test]
fn a_client_that_cancels_closes_the_connection_of_an_http1_backend() {
    let backend = RawBackend::start(vec![vec![Step::ReadUntil(b"never")]]);
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, ""));
    run(async {
        let client = Client::connect(weir.address("web")).await;
        let (response, _) = client.open(get("/"), true).await.unwrap();
        weir.wait_until("a request", |status| status["requests"]["total"] == 1);
        drop(response);
        cut(&weir, 1);
    });
    assert!(backend.received().starts_with(b"GET / HTTP/1.1\r\n"));
}

#[test]
fn what_backends_do_wrong() {
    let backend = http2::Backend::start(None, |mut connection| async move {
        let mut half = None;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            match request.uri().path() {
                "/reset" => respond.send_reset(Reason::INTERNAL_ERROR),
                "/half" => {
                    let ok = Response::builder().header("content-length", 9).body(()).unwrap();
                    let mut stream = respond.send_response(ok, false).unwrap();
                    stream.send_data(Bytes::from("half"), false).unwrap();
                    half = Some(stream);
                }
                "/goaway" => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
                _ => {
                    // The other half never comes.
                    if let Some(mut half) = half.take() {
                        half.send_reset(Reason::INTERNAL_ERROR);
                    }
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from("ok"), true).unwrap();
                }
            }
        }
    });
    let sections = balancer::with(&[backend.address], BOTH, TO_HTTP2);
    let weir = Balancer::start(&format!("{sections}reactors: 1\n"));
    let address = weir.address("web");
    run(async {
        let client = Client::connect(address).await;
        for path in ["/reset", "/goaway"] {
            let answer = client.get(path).await;
            let message = "the backend closed the connection before it answered";
            assert_eq!((answer.status, answer.message().as_str()), (502, message), "{path}");
            assert_eq!(client.get("/").await.text(), "ok", "after {path}");
        }
        let (half, _) = client.open(get("/half"), true).await.unwrap();
        let mut half = half.await.unwrap().into_body();
        assert_eq!(half.data().await.unwrap().unwrap(), "half");
        assert_eq!(client.get("/").await.text(), "ok");
        let reset = half.data().await.unwrap().unwrap_err();
        assert_eq!(reset.reason(), Some(Reason::INTERNAL_ERROR));
    });
    let mut client = Http1::connect(address);
    client.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream().peek(&mut [0]).unwrap();
    assert_eq!(crate::get(address, "/").text(), "ok");
    assert!(client.try_response(false).is_err(), "it must not pass for the whole");
}

/// A stream that the backend has refused was not acted on: any request may be sent again.
#[test]
fn refused_streams_are_tried_again() {
    let backend = http2::Backend::start(None, |mut connection| async move {
        let mut count = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            count += 1;
            if count == 1 {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                respond.send_response(Response::new(()), true).unwrap();
            }
        }
    });
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, TO_HTTP2));
    run(async {
        let client = Client::connect(weir.address("web")).await;
        assert_eq!(client.get("/").await.status, 200);
    });
    assert_eq!(weir.status()["requests"]["retries"], 1);
}

#[test]
fn a_backend_that_leaves_gets_no_more() {
    let backend = http2::Backend::start(None, |mut connection| async move {
        // Two streams, then it says that it leaves, as one does that is replaced.
        for count in 0.. {
            let Some(Ok((_, mut respond))) = connection.accept().await else { return };
            respond.send_response(Response::new(()), true).unwrap();
            if count == 1 {
                connection.graceful_shutdown();
            }
        }
    });
    let sections = balancer::with(&[backend.address], BOTH, TO_HTTP2);
    let weir = Balancer::start(&format!("{sections}reactors: 1\n"));
    run(async {
        let client = Client::connect(weir.address("web")).await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.status, 200);
        }
    });
    assert!(backend.connections() >= 3, "{}", backend.connections());
}

#[test]
fn one_connection_carries_many_streams_to_a_backend() {
    let backend = Backend::start_speaking("b", Speaks { http2: true, tls: None });
    let sections = balancer::with(&[backend.address], BOTH, TO_HTTP2);
    let weir = Balancer::start(&format!("{sections}reactors: 1\n"));
    run(async {
        let client = Arc::new(Client::connect(weir.address("web")).await);
        let streams: Vec<_> = (0..100)
            .map(|_| {
                let client = Arc::clone(&client);
                tokio::spawn(async move { client.get("/slow/50").await.status })
            })
            .collect();
        for stream in streams {
            assert_eq!(stream.await.unwrap(), 200);
        }
    });
    for _ in 0..3 {
        assert_eq!(crate::get(weir.address("web"), "/").status, 200);
    }
    assert_eq!((backend.requests(), backend.connections()), (103, 1));
}

#[test]
fn a_listener_that_is_removed_lets_streams_finish() {
    let (backend, weir) = with_listener("");
    run(async {
        let client = Client::connect(weir.address("web")).await;
        let (busy, _) = client.open(get("/slow/400"), true).await.unwrap();
        let idle = Client::connect(weir.address("web")).await;
        assert_eq!(idle.get("/").await.status, 200);
        weir.wait_until("a request", |status| status["requests"]["total"] == 2);
        weir.write(&balancer::simple(&[backend.address]).replace("127.0.0.1:0", "127.0.0.2:0"));
        weir.ok(&["reload"]);
        idle.connection.await.unwrap().expect("a GOAWAY that tells of no error");
        assert_eq!(http2::read(busy).await.unwrap().text(), "slow\n");
        client.connection.await.unwrap().expect("a GOAWAY that tells of no error");
    });
}

#[test]
fn a_stop_lets_streams_finish() {
    let (_backend, mut weir) = with_listener("");
    let address = weir.address("web");
    run(async {
        let client = Client::connect(address).await;
        let (busy, _) = client.open(get("/slow/400"), true).await.unwrap();
        weir.wait_until("a request", |status| status["requests"]["total"] == 1);
        weir.signal(Signal::SIGTERM);
        assert_eq!(http2::read(busy).await.unwrap().text(), "slow\n");
        client.connection.await.unwrap().expect("a GOAWAY that tells of no error");
    });
    assert!(weir.wait());
}

#[test]
fn idle_connections_are_closed() {
    let (_backend, weir) = with_listener(", timeouts: { header: 200ms, idle: 300ms }");
    run(async {
        let client = Client::connect(weir.address("web")).await;
        assert_eq!(client.get("/slow/600").await.status, 200, "a busy one is not idle");
        let silent = Client::connect(weir.address("web")).await;
        for client in [client, silent] {
            client.connection.await.unwrap().expect("a GOAWAY that tells of no error");
        }
    });
    // One that says nothing at all, and one that stops within the preface.
    for bytes in ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = Http1::connect(weir.address("web"));
        client.send(bytes);
        let began = Instant::now();
        let _ = std::io::Read::read_to_end(client.stream_mut(), &mut Vec::new());
        assert!(began.elapsed() < Duration::from_secs(8), "{bytes}");
    }
    weir.wait_until("no connection", |status| status["listeners"][0]["connections"] == 0);
}

#[test]
fn a_connection_serves_so_many_requests() {
    let (backend, weir) = with_listener(", limits: { requests: 3 }");
    run(async {
        let client = Client::connect(weir.address("web")).await;
        for _ in 0..3 {
            assert_eq!(client.get("/").await.status, 200);
        }
        client.connection.await.unwrap().expect("a GOAWAY that tells of no error");
    });
    assert_eq!(backend.requests(), 3);
}

/// What has served a stream serves the next one, but not with what is left of one that was cancelled.
#[test]
fn a_connection_goes_on_after_streams_that_were_cancelled() {
    let (_backend, weir) = with_listener("");
    run(async {
        let client = Client::connect(weir.address("web")).await;
        for round in 1..=3 {
            for _ in 0..8 {
                let (_answer, mut stream) = client.open(get("/slow/600"), true).await.unwrap();
                stream.send_reset(Reason::CANCEL);
            }
            assert_eq!(client.get(&format!("/bytes/{round}")).await.body.len(), round);
            let sent = Bytes::from(vec![b'x'; round * 10_000]);
            let answer = client.post(post("/echo"), sent.clone(), None).await.unwrap();
            assert_eq!(answer.body, sent);
        }
    });
}

/// A client whose windows are full must not hold up others, nor stay for ever.
#[test]
fn a_stream_that_nobody_reads_is_cut_and_holds_up_no_other() {
    let (_backend, weir) = with_listener(", timeouts: { write: 500ms }");
    run(async {
        for size in [1_000_000, 70_000] {
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(1_000).initial_connection_window_size(8 * 1024 * 1024);
            let socket = tokio::net::TcpStream::connect(weir.address("web")).await.unwrap();
            let client = Client::with(&builder, socket).await;
            let (stuck, _) = client.open(get(&format!("/bytes/{size}")), true).await.unwrap();
            let mut stuck = stuck.await.unwrap().into_body();
            assert_eq!(client.get("/bytes/100000").await.body.len(), 100_000);
            // Nothing is released, so nothing more can come but the end.
            let first = stuck.data().await.unwrap().unwrap();
            assert_eq!(first.len(), 1_000);
            let cut = stuck.data().await.unwrap().unwrap_err();
            assert!(cut.is_reset(), "{cut}");
            assert_eq!(client.get("/bytes/100000").await.body.len(), 100_000);
        }
    });
}

/// Streams of several clients share a connection to a backend, and its window.
#[test]
fn answers_that_nobody_takes_hold_up_no_others_of_their_backend() {
    let backend = Backend::start_speaking("b", Speaks { http2: true, tls: None });
    let sections = balancer::with(&[backend.address], BOTH, TO_HTTP2);
    let weir = Balancer::start(&format!("{sections}reactors: 1\n"));
    run(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0).initial_connection_window_size(1 << 20);
        let socket = tokio::net::TcpStream::connect(weir.address("web")).await.unwrap();
        let slow = Client::with(&builder, socket).await;
        let mut stuck = Vec::new();
        for _ in 0..50 {
            let (response, _) = slow.open(get("/bytes/2000000"), true).await.unwrap();
            stuck.push(response.await.unwrap());
        }
        let other = Client::connect(weir.address("web")).await;
        for _ in 0..10 {
            assert_eq!(other.get("/bytes/300000").await.body.len(), 300_000);
        }
    });
    assert_eq!(backend.connections(), 1);
}

/// One that reads nothing from its socket at all.
#[test]
fn a_connection_that_nobody_reads_is_closed() {
    let (_backend, weir) =
        with_listener(", timeouts: { header: 300ms, write: 300ms, idle: 300ms }");
    let socket = run(async {
        let socket = tokio::net::TcpStream::connect(weir.address("web")).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
        let (send, connection) = builder.handshake::<_, Bytes>(Late::new(socket)).await.unwrap();
        let client = Client { send, connection: tokio::spawn(connection) };
        let mut streams = Vec::new();
        for _ in 0..50 {
            streams.push(client.open(get("/bytes/4000000"), true).await.unwrap());
        }
        weir.wait_until("requests", |status| status["requests"]["total"] == 50);
        weir.wait_until("no connection", |status| status["listeners"][0]["connections"] == 0);
        client
    });
    drop(socket);
    assert_eq!(crate::get(weir.address("web"), "/").status, 200);
}

/// A socket that is read only until the settings have come, so that the other side's writes get stuck.
struct Late {
    socket: tokio::net::TcpStream,
    reads: usize,
}

impl Late {
    fn new(socket: tokio::net::TcpStream) -> Self {
        Self { socket, reads: 2 }
    }
}

impl tokio::io::AsyncRead for Late {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        space: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.reads == 0 {
            return std::task::Poll::Pending;
        }
        let polled = std::pin::Pin::new(&mut self.socket).poll_read(context, space);
        if polled.is_ready() {
            self.reads -= 1;
        }
        polled
    }
}

impl tokio::io::AsyncWrite for Late {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
