//! WebSockets, and upgrades as such: what passes, what does not, and how a tunnel ends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use weir_tests::backend::{Backend, Speaks};
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::{Client, PATIENCE};
use weir_tests::http2::{self, run};
use weir_tests::raw_backend::{RawBackend, Step};
use weir_tests::tls::{ANY_VERSION, Authority, connect};
use weir_tests::websocket::{
    Echo, GOODBYE, connect_request, exercise, http2_echo, open, open_http2,
};

const BOTH: &str = ", protocols: [http1, http2]";
const TO_HTTP2: &str = ", protocol: http2";
const ASK: &str = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn socket(weir: &Balancer) -> TcpStream {
    let socket = TcpStream::connect(weir.address("web")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

fn closed_by_server<S: Read + Write>(mut socket: tungstenite::WebSocket<S>) {
    let close = CloseFrame { code: GOODBYE.into(), reason: "enough".into() };
    assert_eq!(socket.read().unwrap(), Message::Close(Some(close)));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

#[test]
fn messages_pass_to_a_backend_of_http1() {
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &["a.example"]);
    let backend = Echo::start();
    let tls = format!("{BOTH}, tls: {{ certificates: [{leaf}] }}");
    for secure in [false, true] {
        let keys = if secure { &tls } else { BOTH };
        let weir = Balancer::start(&balancer::with(&[backend.address], keys, ""));
        let config = authority.client(ANY_VERSION, None);
        if secure {
            let shared = Arc::new(config.clone());
            let stream =
                || connect(weir.address("web"), "a.example", &shared).unwrap().into_inner().0;
            exercise(open("/echo", stream()));
            closed_by_server(open("/close", stream()));
        } else {
            exercise(open("/echo", socket(&weir)));
            closed_by_server(open("/close", socket(&weir)));
        }
        run(async {
            let address = weir.address("web");
            let client = match secure {
                true => http2::Client::connect_tls(address, "a.example", config).await,
                false => http2::Client::connect(address).await,
            };
            exercise(open_http2(&client, "/echo").await);
            closed_by_server(open_http2(&client, "/close").await);
            exercise(open_http2(&client, "/echo").await);
        });
    }
}

#[test]
fn messages_pass_where_requests_are_hedged() {
    let backend = Echo::start();
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, ", hedge: 5s"));
    exercise(open("/echo", socket(&weir)));
    run(async {
        let client = http2::Client::connect(weir.address("web")).await;
        exercise(open_http2(&client, "/echo").await);
    });
}

/// How long a request may take ends with the answer that agrees to the upgrade; what it takes up does not.
#[test]
fn a_tunnel_outlives_the_limit_of_its_request() {
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &["a.example"]);
    let backend = Echo::start();
    let tls = format!(", tls: {{ certificates: [{leaf}] }}");
    for secure in [false, true] {
        let keys = if secure { &tls } else { "" };
        let service = ", timeouts: { request: 300ms }";
        let weir = Balancer::start(&balancer::with(&[backend.address], keys, service));
        let config = Arc::new(authority.client(ANY_VERSION, None));
        let stream: Box<dyn Stream> = if secure {
            Box::new(connect(weir.address("web"), "a.example", &config).unwrap().into_inner().0)
        } else {
            Box::new(socket(&weir))
        };
        let (mut socket, began) = (open("/echo", stream), Instant::now());
        while began.elapsed() < Duration::from_millis(600) {
            socket.send(Message::text("still here")).unwrap();
            assert_eq!(socket.read().unwrap(), Message::text("still here"));
        }
        let backend = &weir.status()["upstreams"][0]["backends"][0];
        assert_eq!(backend["open"], 1, "{backend}");
    }
}

#[test]
fn messages_pass_to_a_backend_of_http2() {
    let backend = http2_echo();
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, TO_HTTP2));
    for _ in 0..2 {
        exercise(open("/echo", socket(&weir)));
    }
    run(async {
        let client = http2::Client::connect(weir.address("web")).await;
        exercise(open_http2(&client, "/echo").await);
        assert_eq!(client.get("/").await.status, 404, "the connection goes on");
    });
}

/// Also where the request is the very first one on its connection to the backend: whether it takes
/// WebSockets is in its settings, which arrive later.
#[test]
fn the_first_request_to_a_backend_of_http2_may_be_a_websocket() {
    for _ in 0..5 {
        let backend = http2_echo();
        let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, TO_HTTP2));
        drop(open("/echo", socket(&weir)));
    }
    let backend = Backend::start_speaking("b", Speaks { http2: true, tls: None });
    let weir = Balancer::start(&balancer::with(&[backend.address], BOTH, TO_HTTP2));
    let mut client = Client::over(socket(&weir));
    client.send(ASK);
    assert_eq!(client.response().status, 502, "this one takes none");
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_backend_may_refuse_and_the_connection_goes_on() {
    let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno\n";
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let step = |text: &str| [Step::ReadUntil(b"\r\n\r\n"), Step::Send(text.as_bytes().to_vec())];
    let script = || [step(refusal), step(ok)].concat();
    let backend = RawBackend::start(vec![script(), script()]);
    let sections = balancer::with(&[backend.address], BOTH, "");
    let weir = Balancer::start(&format!("{sections}reactors: 1\n"));
    let mut client = Client::over(socket(&weir));
    client.send(ASK);
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (403, "no\n"));
    assert_eq!(client.get("/").text(), "ok");
    // The backend serves one connection after the other.
    drop(weir);
    let weir = Balancer::start(&format!("{sections}reactors: 1\n"));
    run(async {
        let client = http2::Client::connect(weir.address("web")).await;
        let (response, _stream) = client.open(connect_request("/up"), false).await.unwrap();
        let answer = http2::read(response).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (403, "no\n"));
        assert_eq!(client.get("/").await.text(), "ok");
    });
}

/// What begins as `GET` with an upgrade to HTTP/2 would go past every rule.
#[test]
fn an_upgrade_to_http2_is_not_passed_on() {
    let backend = Backend::start("b");
    let weir = Balancer::start(&balancer::with(&[backend.address], "", ""));
    for name in ["h2c", "H2C", "h2", "HTTP/2.0", "http/1.1"] {
        let mut client = Client::over(socket(&weir));
        client.send(format!(
            "GET /headers HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {name}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        ));
        let head = client.response().text().to_lowercase();
        assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
        assert_eq!(client.get("/").status, 200);
    }
}

/// A backend that agrees to the upgrade of one connection; then `talk` has it.
fn agreeing(talk: impl FnOnce(TcpStream) + Send + 'static) -> (Balancer, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sections =
        balancer::with(&[listener.local_addr().unwrap()], BOTH, ", timeouts: { idle: 400ms }");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let text = String::from_utf8(head).unwrap().to_lowercase();
        assert!(text.contains("\r\nupgrade: websocket\r\n"), "{text}");
        let key = text.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        assert_eq!(key.map(str::len), Some(24), "{text}");
        stream.write_all(AGREE.as_bytes()).unwrap();
        talk(stream);
    });
    (Balancer::start(&sections), thread)
}

/// Asks for the upgrade; the connection, from which nothing of the tunnel was read yet.
fn upgraded(weir: &Balancer) -> TcpStream {
    upgraded_with(weir).0
}

/// The same with what was read of the tunnel.
fn upgraded_with(weir: &Balancer) -> (TcpStream, Vec<u8>) {
    let mut client = Client::over(socket(weir));
    client.send(ASK);
    let response = client.response();
    assert_eq!((response.status, response.header("upgrade")), (101, Some("websocket")));
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.into_inner()
}

#[test]
fn either_side_may_end_first_and_still_listen() {
    let client_ends_first = |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(format!("got {text}").as_bytes()).unwrap();
    };
    let backend_ends_first = |mut stream: TcpStream| {
        stream.write_all(b"first").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "after your end");
    };
    let (weir, backend) = agreeing(client_ends_first);
    let mut stream = upgraded(&weir);
    stream.write_all(b"all").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "got all");
    backend.join().unwrap();
    let (weir, backend) = agreeing(backend_ends_first);
    let (mut stream, mut read) = upgraded_with(&weir);
    stream.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"first");
    stream.write_all(b"after your end").unwrap();
    drop(stream);
    backend.join().unwrap();
    // The same over HTTP/2.
    let (weir, backend) = agreeing(client_ends_first);
    run(async {
        let client = http2::Client::connect(weir.address("web")).await;
        let (response, mut send) = client.open(connect_request("/up"), false).await.unwrap();
        send.send_data(Bytes::from("all"), true).unwrap();
        assert_eq!(http2::read(response).await.unwrap().text(), "got all");
    });
    backend.join().unwrap();
    let (weir, backend) = agreeing(backend_ends_first);
    run(async {
        let client = http2::Client::connect(weir.address("web")).await;
        let (response, mut send) = client.open(connect_request("/up"), false).await.unwrap();
        assert_eq!(http2::read(response).await.unwrap().text(), "first");
        send.send_data(Bytes::from("after your end"), true).unwrap();
        backend.join().unwrap();
    });
}

#[test]
fn a_reset_of_one_side_is_one_of_the_other() {
    let resets = |mut stream: TcpStream| {
        // Closing with a byte unread resets.
        let mut byte = [0];
        stream.peek(&mut byte).unwrap();
        stream.write_all(b"").unwrap();
    };
    let (weir, backend) = agreeing(resets);
    let mut stream = upgraded(&weir);
    stream.write_all(b"x").unwrap();
    let ended = stream.read(&mut [0; 8]);
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    backend.join().unwrap();
    let (weir, backend) = agreeing(resets);
    run(async {
        let client = http2::Client::connect(weir.address("web")).await;
        let (response, mut send) = client.open(connect_request("/up"), false).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        send.send_data(Bytes::from("x"), false).unwrap();
        assert!(body.data().await.unwrap().unwrap_err().is_reset());
    });
    backend.join().unwrap();
    let is_reset = |mut stream: TcpStream| {
        let ended = stream.read(&mut [0; 8]);
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    };
    let (weir, backend) = agreeing(move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"unread").unwrap();
        is_reset(stream);
    });
    let mut stream = upgraded(&weir);
    stream.write_all(b"x").unwrap();
    stream.peek(&mut [0; 8]).unwrap();
    drop(stream);
    backend.join().unwrap();
    let (weir, backend) = agreeing(is_reset);
    run(async {
        let client = http2::Client::connect(weir.address("web")).await;
        let (response, mut send) = client.open(connect_request("/up"), false).await.unwrap();
        let body = response.await.unwrap().into_body();
        send.send_reset(h2::Reason::CANCEL);
        drop(body);
        backend.join().unwrap();
    });
}

#[test]
fn a_tunnel_that_nobody_uses_is_closed() {
    let silent = |mut stream: TcpStream| {
        let mut byte = [0];
        for _ in 0..8 {
            stream.read_exact(&mut byte).unwrap();
        }
        assert_eq!(stream.read(&mut byte).unwrap(), 0);
    };
    let (weir, backend) = agreeing(silent);
    let mut stream = upgraded(&weir);
    for _ in 0..8 {
        stream.write_all(b"x").unwrap();
        // Longer together than it may be idle, each alone shorter.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    backend.join().unwrap();
    let (weir, backend) = agreeing(silent);
    run(async {
        let client = http2::Client::connect(weir.address("web")).await;
        let (response, mut send) = client.open(connect_request("/up"), false).await.unwrap();
        send.send_data(Bytes::from("12345678"), false).unwrap();
        assert_eq!(http2::read(response).await.unwrap().text(), "");
    });
    backend.join().unwrap();
}
