//! Answers are compressed for clients that ask, where it is worth it.

use std::io::Read;

use weir_tests::balancer::Balancer;
use weir_tests::client::{Client, Response};
use weir_tests::raw_backend::{RawBackend, Step};

/// A backend that gives these answers, one a connection, behind a route that compresses.
fn behind(answers: &[String]) -> (RawBackend, Balancer) {
    let script = |answer: &String| {
        vec![Step::ReadUntil(b"\r\n\r\n"), Step::Send(answer.clone().into_bytes()), Step::Close]
    };
    let backend = RawBackend::start(answers.iter().map(script).collect());
    let weir = Balancer::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: all, service: s, compress: {{ types: [text/*], min-size: 100B }} }}]\n\
         services: [{{ name: s, url: \"http://{}\" }}]\n",
        backend.address
    ));
    (backend, weir)
}

fn ask(weir: &Balancer, version: &str, accept: &str) -> Response {
    let mut client = Client::connect(weir.address("web"));
    client.send(format!("GET / HTTP/{version}\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n"));
    client.response()
}

fn decoded(response: &Response) -> Vec<u8> {
    let (mut text, bytes) = (Vec::new(), response.body.as_slice());
    match response.header("content-encoding") {
        Some("gzip") => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut text)),
        Some("br") => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text)),
        Some("zstd") => {
            let mut decoder = zstd::stream::read::Decoder::new(bytes).unwrap();
            decoder.read_to_end(&mut text).unwrap();
        }
        _ => text.extend_from_slice(bytes),
    }
    text
}

#[test]
fn what_the_client_takes_and_the_type_decide() {
    let text = "x".repeat(20_000);
    let with = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}");
    let plain = with("content-type: text/plain\r\netag: \"1\"\r\ncontent-length: 20000", &text);
    let chunked =
        format!("content-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n4e20\r\n{text}");
    let chunked = format!("HTTP/1.1 200 OK\r\n{chunked}\r\n0\r\n\r\n");
    let cases = [
        (plain.clone(), "1.1", "gzip", Some("gzip")),
        (plain.clone(), "1.1", "br", Some("br")),
        (plain.clone(), "1.1", "gzip, zstd", Some("zstd")),
        (plain.clone(), "1.0", "gzip", Some("gzip")),
        (plain.clone(), "1.1", "identity", None),
        (plain.clone(), "1.1", "gzip;q=0", None),
        (chunked, "1.1", "gzip", Some("gzip")),
        (with("content-type: text/plain\r\nconnection: close", &text), "1.1", "br", Some("br")),
        (with("content-type: image/png\r\ncontent-length: 20000", &text), "1.1", "gzip", None),
        (with("content-length: 20000", &text), "1.1", "gzip", None),
        (
            with("content-type: text/a\r\ncontent-encoding: x\r\ncontent-length: 20000", &text),
            "1.1",
            "gzip",
            None,
        ),
        (
            with(
                "content-type: text/a\r\ncache-control: no-transform\r\ncontent-length: 20000",
                &text,
            ),
            "1.1",
            "gzip",
            None,
        ),
    ];
    let answers: Vec<_> = cases.iter().map(|(answer, ..)| answer.clone()).collect();
    let (_backend, weir) = behind(&answers);
    for (answer, version, accept, expected) in &cases {
        let response = ask(&weir, version, accept);
        let head = answer.split("\r\n\r\n").next().unwrap_or("");
        let own = response.header("content-encoding").filter(|encoding| *encoding != "x");
        assert_eq!(own, *expected, "{accept}: {head}");
        assert_eq!(decoded(&response).len(), 20_000, "{accept}: {head}");
        if expected.is_some() {
            assert_eq!(response.header("vary"), Some("accept-encoding"), "{head}");
            assert_eq!(response.header("etag"), None, "of other bytes");
            assert!(response.body.len() < 1_000, "{} bytes", response.body.len());
        }
    }
}

#[test]
fn short_answers_and_those_to_head_stay_as_they_are() {
    let short = "HTTP/1.1 200 OK\r\ncontent-type: text/a\r\ncontent-length: 2\r\n\r\nok".to_owned();
    let long = "HTTP/1.1 200 OK\r\ncontent-type: text/a\r\ncontent-length: 500\r\n\r\n".to_owned();
    let (_backend, weir) = behind(&[short, long]);
    let response = ask(&weir, "1.1", "gzip");
    assert_eq!((response.header("content-encoding"), response.text().as_str()), (None, "ok"));
    let mut client = Client::connect(weir.address("web"));
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let response = client.try_response(true).unwrap();
    assert_eq!(response.header("content-length"), Some("500"));
}

#[test]
fn what_has_come_can_be_read_before_the_rest_comes() {
    let backend = RawBackend::start(vec![vec![
        Step::ReadUntil(b"\r\n\r\n"),
        Step::Send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
                .to_vec(),
        ),
        Step::ReadUntil(b"never"),
    ]]);
    let weir = Balancer::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: all, service: s, compress: {{ types: [text/*], encodings: [gzip] }} }}]\n\
         services: [{{ name: s, url: \"http://{}\" }}]\n",
        backend.address
    ));
    let client = Client::connect(weir.address("web"));
    let mut stream = client.stream();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    std::io::Write::write_all(&mut stream, request).unwrap();
    let (mut read, mut some) = (Vec::new(), [0; 1024]);
    loop {
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "the connection ended");
        read.extend_from_slice(&some[..count]);
        let Some(head) = read.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        let chunk = &read[head + 4..];
        let Some(line) = chunk.windows(2).position(|it| it == b"\r\n") else { continue };
        let mut text = [0; 5];
        let mut decoder = flate2::read::GzDecoder::new(&chunk[line + 2..]);
        if decoder.read_exact(&mut text).is_ok() {
            assert_eq!(&text, b"first");
            return;
        }
    }
}
