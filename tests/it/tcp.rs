//! Connections that are passed on as they come: TCP, TLS by its name, with and without PROXY headers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use weir_tests::backend::Backend;
use weir_tests::balancer::Balancer;
use weir_tests::client::Client;
use weir_tests::raw_backend::{RawBackend, Step};

fn tcp(backend: SocketAddr, service: &str) -> Balancer {
    Balancer::start(&sections("127.0.0.1:0", backend, service))
}

fn sections(listens: &str, backend: SocketAddr, service: &str) -> String {
    format!(
        "listeners: [{{ name: tcp, address: \"{listens}\", protocols: [tcp], service: s }}]\n\
         services: [{{ name: s, url: \"http://{backend}\"{service} }}]\n"
    )
}

fn connect(weir: &Balancer, listener: &str) -> TcpStream {
    let stream = TcpStream::connect(weir.address(listener)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

#[test]
fn bytes_pass_both_ways_up_to_the_end_of_each() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let weir = tcp(listener.local_addr().unwrap(), "");
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).unwrap();
    });
    let mut client = connect(&weir, "tcp");
    client.write_all(&vec![7; 3_000_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "3000000 bytes");
    backend.join().unwrap();
    weir.wait_until("the connection is gone", |it| it["listeners"][0]["connections"] == 0);
}

#[test]
fn a_reset_is_carried_over() {
    let backend = RawBackend::start(vec![vec![Step::ReadUntil(b"hello"), Step::Close]]);
    let weir = tcp(backend.address, "");
    let mut client = connect(&weir, "tcp");
    client.write_all(b"hello and more that is never read").unwrap();
    let end = client.read(&mut [0; 16]);
    assert!(end.is_err(), "a reset and no end: {end:?}");
}

#[test]
fn a_backend_that_is_gone_closes_the_connection() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let weir = tcp(gone, "");
    let end = connect(&weir, "tcp").read(&mut [0; 16]);
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    weir.wait_until("it is counted", |status| {
        let refused = status["requests"]["refused"].as_array().unwrap();
        refused.iter().any(|it| it["reason"] == "connect_failed")
    });
}

#[test]
fn what_backends_of_http2_are_sent_passes_as_it_comes() {
    let backend = RawBackend::start(vec![vec![Step::ReadUntil(b"hello")]]);
    let weir = tcp(backend.address, ", protocol: http2");
    let mut client = connect(&weir, "tcp");
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(backend.received(), b"hello");
}

#[test]
fn a_backend_that_is_reached_again_is_not_left_out() {
    let backend = Backend::start("b");
    // Where nobody else listens.
    let address = TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
    let weir = Balancer::start(&format!(
        "listeners: [{{ name: tcp, address: \"127.0.0.1:0\", protocols: [tcp], service: s }}]\n\
         services: [{{ name: s, upstream: u }}]\n\
         upstreams: [{{ name: u, targets: [{{ address: \"{address}\" }}, {{ address: \"{}\", \
         priority: 1 }}], health: {{ passive: {{ consecutive-errors: 3, base-ejection: 1h }} }} }}]\n",
        backend.address
    ));
    let from = |name: &str| {
        let mut client = Client::connect(weir.address("tcp"));
        assert_eq!(client.get("/").header("x-backend"), Some(name));
    };
    for _ in 0..2 {
        from("b");
        from("b");
        let _back = Backend::start_at("back", address);
        from("back");
    }
}

#[test]
fn silence_ends_it() {
    let backend = RawBackend::start(vec![vec![Step::ReadUntil(b"never")]]);
    let weir = tcp(backend.address, ", timeouts: { idle: 200ms }");
    let end = connect(&weir, "tcp").read(&mut [0; 16]);
    assert!(!matches!(end, Ok(1..)), "{end:?}");
}

#[test]
fn backends_are_told_who_the_client_is() {
    for (version, listens) in
        [("v1", "127.0.0.1:0"), ("v2", "127.0.0.1:0"), ("v1", "0.0.0.0:0"), ("v2", "[::]:0")]
    {
        let backend = RawBackend::start(vec![vec![Step::ReadUntil(b"hello")]]);
        let service = format!(", proxy-protocol: {version}");
        let weir = Balancer::start(&sections(listens, backend.address, &service));
        let port = weir.address("tcp").port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"hello").unwrap();
        let (us, them) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        client.shutdown(Shutdown::Write).unwrap();
        let received = backend.received();
        let mut expected = match version {
            "v1" => format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", us.port(), them.port())
                .into_bytes(),
            _ => {
                let mut header =
                    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
                header.extend(us.port().to_be_bytes());
                header.extend(them.port().to_be_bytes());
                header
            }
        };
        expected.extend(b"hello");
        assert_eq!(received, expected, "{version}");
    }
}

#[test]
fn clients_are_believed_where_the_listener_says_so() {
    let backend = Backend::start("b");
    let weir = Balancer::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\", proxy-protocol: true, \
         protocols: [http1, http2] }}]\n\
         routes: [{{ name: near, sources: [192.0.2.0/24], service: s }}]\n\
         services: [{{ name: s, url: \"http://{}\" }}]\n",
        backend.address
    ));
    let head = "GET /headers HTTP/1.1\r\nHost: a\r\n\r\n";
    for chunk in [1, 1_000] {
        let mut client = Client::connect(weir.address("web"));
        let bytes = format!("PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\r\n{head}");
        bytes.as_bytes().chunks(chunk).for_each(|piece| client.send(piece));
        let text = client.response().text();
        assert!(text.contains("x-forwarded-for: 192.0.2.7\n"), "{text}");
        assert!(text.contains("x-forwarded-port: 443\n"), "{text}");
    }
    let mut client = Client::connect(weir.address("web"));
    client.send(format!("PROXY TCP4 203.0.113.7 198.51.100.1 4000 443\r\n{head}"));
    assert_eq!(client.response().status, 404, "another source");
    for wrong in [head, "PROXY TCP4 192.0.2.7 198.51.100.1 4000\r\n", "\r\n\r\n\0\r\nQUIT\n\x21"] {
        let mut client = Client::connect(weir.address("web"));
        client.send(wrong);
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert!(client.is_closed(), "{wrong:?}");
    }
}

/// The hello of a client of TLS that asks for that name (RFC 8446 section 4.1.2).
fn hello(name: &str) -> Vec<u8> {
    let size = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let mut list = vec![0];
    list.extend(size(name.len()));
    list.extend(name.as_bytes());
    let mut extension = vec![0, 0];
    extension.extend(size(list.len() + 2));
    extension.extend(size(list.len()));
    extension.extend(list);
    let mut body = vec![3, 3];
    body.extend([0; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(size(extension.len()));
    body.extend(extension);
    let mut record = vec![22, 3, 1];
    record.extend(size(body.len() + 4));
    record.extend([1, 0]);
    record.extend(size(body.len()));
    record.extend(body);
    record
}

#[test]
fn tls_is_led_by_its_name_and_not_touched() {
    let backend = || RawBackend::start(vec![vec![Step::ReadUntil(b"never")]; 2]);
    let (exact, wild, rest) = (backend(), backend(), backend());
    let weir = Balancer::start(&format!(
        "listeners: [{{ name: tls, address: \"127.0.0.1:0\", protocols: [tls] }}]\n\
         routes:\n\
         \x20 - {{ name: rest, service: rest }}\n\
         \x20 - {{ name: wild, snis: [\"*.example\"], service: wild }}\n\
         \x20 - {{ name: exact, snis: [a.example], service: exact }}\n\
         services:\n\
         \x20 - {{ name: exact, url: \"http://{}\" }}\n\
         \x20 - {{ name: wild, url: \"http://{}\" }}\n\
         \x20 - {{ name: rest, url: \"http://{}\" }}\n",
        exact.address, wild.address, rest.address
    ));
    for (name, backend) in [("A.example", &exact), ("b.example", &wild), ("other.test", &rest)] {
        let hello = hello(name);
        for chunk in [1, 1_000] {
            let mut client = connect(&weir, "tls");
            client.set_nodelay(true).unwrap();
            hello.chunks(chunk).for_each(|piece| client.write_all(piece).unwrap());
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(backend.received(), hello, "{name}");
        }
    }
    let mut client = connect(&weir, "tls");
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(!matches!(client.read(&mut [0; 16]), Ok(1..)), "what is no TLS is closed");
}
