//! TLS towards backends, and what `weir check` says of files that cannot be used.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use weir_tests::backend::{Backend, Speaks};
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::{Client, Response};
use weir_tests::need;
use weir_tests::tls::{Authority, Files, Kind, replace};

use crate::get;

const INTERNAL: &str = "orders.internal";

/// An origin that shows this certificate.
fn origin(files: &Files, clients: Option<&Authority>) -> Backend {
    let server = Authority::server(files, clients, &[]);
    Backend::start_speaking("b", Speaks { tls: Some(Arc::new(server)), http2: false })
}

/// What a request comes to where the service has these keys of `tls`, and the log.
fn ask(backend: SocketAddr, tls: &str) -> (Response, String) {
    let service = format!(", tls: {{ {tls} }}");
    let weir = Balancer::start(&balancer::with(&[backend], "", &service));
    let response = get(weir.address("web"), "/headers");
    (response, weir.log())
}

fn served(backend: SocketAddr, tls: &str) {
    let (response, log) = ask(backend, tls);
    assert_eq!(response.status, 200, "{tls}: {log}");
    assert!(response.text().contains("x-forwarded-proto: http\n"), "the client's, not ours");
}

fn refused(backend: SocketAddr, tls: &str, reason: &str) {
    let (response, log) = ask(backend, tls);
    assert_eq!(response.status, 502, "{tls}");
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["message"], "TLS with the backend failed");
    let line = log.lines().find(|line| line.contains(&format!("TLS with backend {backend}: ")));
    assert!(line.is_some_and(|line| line.contains(reason)), "{tls}: `{reason}` in {log}");
}

#[test]
fn certificates_are_verified_unless_it_is_off() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca = |authority: &Authority| format!("ca: \"{}\"", authority.pem().display());
    let by_address = origin(&authority.leaf("address", &["127.0.0.1"]), None);
    let by_name = origin(&authority.leaf("name", &[INTERNAL]), None);
    let expired = origin(&authority.leaf_of(Kind::Expired, "expired", &["127.0.0.1"]), None);
    refused(by_address.address, "", "UnknownIssuer");
    served(by_address.address, &ca(&authority));
    refused(by_address.address, &ca(&stranger), "UnknownIssuer");
    refused(by_name.address, &ca(&authority), "not valid for name");
    served(by_name.address, &format!("{}, server-name: {INTERNAL}", ca(&authority)));
    let other = format!("{}, server-name: other.internal", ca(&authority));
    refused(by_name.address, &other, "not valid for name \"other.internal\"");
    refused(expired.address, &ca(&authority), "expired");
    for backend in [&by_address, &by_name, &expired] {
        served(backend.address, "verify: false");
    }
    // A backend that speaks no TLS.
    let plain = Backend::start("plain");
    refused(plain.address, &ca(&authority), "");
}

#[test]
fn a_url_of_https_means_tls() {
    let authority = Authority::new();
    let backend = origin(&authority.leaf("leaf", &["127.0.0.1"]), None);
    let sections = |more: &str| {
        format!(
            "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
             routes: [{{ name: all, service: s }}]\n\
             services: [{{ name: s, url: \"https://{}\"{more} }}]\n",
            backend.address
        )
    };
    let weir = Balancer::start(&sections(""));
    assert_eq!(get(weir.address("web"), "/").status, 502);
    let ca = authority.pem();
    weir.write(&sections(&format!(", tls: {{ ca: \"{}\" }}", ca.display())));
    weir.ok(&["reload"]);
    let mut client = Client::connect(weir.address("web"));
    assert_eq!((client.get("/").status, client.get("/").status), (200, 200));
    assert_eq!(backend.connections(), 1, "it is kept");
}

#[test]
fn we_show_a_certificate_where_we_are_asked() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let backend = origin(&authority.leaf("leaf", &["127.0.0.1"]), Some(&clients));
    let ca = format!("ca: \"{}\"", authority.pem().display());
    let own = clients.leaf("weir", &["weir"]);
    let stranger = authority.leaf("stranger", &["weir"]);
    served(backend.address, &format!("{ca}, certificate: {own}"));
    // With TLS 1.3, a server refuses a client after the handshake: in place of its answer.
    for tls in [ca.clone(), format!("{ca}, certificate: {stranger}")] {
        let (response, _) = ask(backend.address, &tls);
        assert_eq!(response.status, 502, "{tls}");
    }
}

/// What is open to a backend stays in use as long as it is spoken to alike, and is closed after that: it
/// has a place among the connections of its upstream.
#[test]
fn connections_live_over_reloads_and_no_longer_than_their_tls() {
    let (authority, next) = (Authority::new(), Authority::new());
    let leaf = authority.leaf("leaf", &["127.0.0.1"]);
    let ca = authority.path("trusted.pem");
    std::fs::copy(authority.pem(), &ca).unwrap();
    for http2 in [true, false] {
        let alpn = if http2 { "h2" } else { "http/1.1" };
        let server = Some(Arc::new(Authority::server(&leaf, None, &[alpn])));
        let backend = Backend::start_speaking("b", Speaks { tls: server, http2 });
        let protocol = if http2 { "http2" } else { "http1" };
        let service = format!(", protocol: {protocol}, tls: {{ ca: \"{}\" }}", ca.display());
        let service = format!("{service}, timeouts: {{ connect: 9s }}");
        let sections = balancer::with(&[backend.address], "", &service);
        let sections = sections.replace("name: u,", "name: u, limits: { connections: 1 },");
        let weir = Balancer::start(&format!("{sections}reactors: 1\n"));
        let address = weir.address("web");
        assert_eq!(get(address, "/").status, 200);
        weir.ok(&["reload"]);
        assert_eq!(get(address, "/").status, 200);
        assert_eq!(backend.connections(), 1, "{protocol}: the same over a reload");
        let both = [&authority, &next].map(|authority| std::fs::read(authority.pem()).unwrap());
        replace(&ca, &both.concat());
        weir.ok(&["reload"]);
        assert_eq!(get(address, "/").status, 200);
        assert_eq!(backend.connections(), 2, "{protocol}: other authorities are trusted");
        replace(&ca, &both[0]);
    }
}

/// Serves one connection over TLS with an answer that ends with the connection.
fn serve_once(listener: &TcpListener, config: Arc<rustls::ServerConfig>, says_goodbye: bool) {
    let (mut socket, _) = listener.accept().unwrap();
    let mut tls = rustls::ServerConnection::new(config).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        request.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
    stream.flush().unwrap();
    if says_goodbye {
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

/// Anyone on the way can end a TCP connection; only the backend can say that its answer is complete.
#[test]
fn an_answer_without_close_notify_is_cut() {
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &["127.0.0.1"]);
    let config = Arc::new(Authority::server(&leaf, None, &[]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = format!(", tls: {{ ca: \"{}\" }}", authority.pem().display());
    let sections = balancer::with(&[listener.local_addr().unwrap()], "", &service);
    let weir = Balancer::start(&sections);
    for says_goodbye in [true, false] {
        let mut client = Client::connect(weir.address("web"));
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        serve_once(&listener, Arc::clone(&config), says_goodbye);
        let response = client.try_response(false).map(|response| response.text());
        let expected = says_goodbye.then_some("until the end");
        assert_eq!(response.as_deref().ok(), expected, "{response:?}");
    }
}

#[test]
fn what_is_wrong_with_files_is_said_by_check() {
    let authority = Authority::new();
    let (leaf, other) = (authority.leaf("leaf", &["a"]), authority.leaf("other", &["a"]));
    let empty = authority.path("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let missing = authority.path("missing.pem");
    let pair = |cert: &Path, key: &Path| Files { cert: cert.to_owned(), key: key.to_owned() };
    let server = |files: Files| format!(", tls: {{ certificates: [{files}] }}");
    let (cert, key) = (leaf.cert.display(), leaf.key.display());
    for (listener, service, message) in [
        (server(leaf.clone()), String::new(), "is valid".to_owned()),
        (
            server(pair(&missing, &leaf.key)),
            String::new(),
            format!("open certificate {}: No such file", missing.display()),
        ),
        (
            server(pair(&leaf.cert, &missing)),
            String::new(),
            format!("open key {}: No such file", missing.display()),
        ),
        (
            server(pair(&empty, &leaf.key)),
            String::new(),
            format!("read certificate {}: holds no PEM certificate", empty.display()),
        ),
        (
            server(pair(&leaf.cert, &leaf.cert)),
            String::new(),
            format!("read key {cert}: holds no PEM private key"),
        ),
        (
            server(pair(&other.cert, &leaf.key)),
            String::new(),
            format!("key {key}: is not of the certificate {}", other.cert.display()),
        ),
        (
            String::new(),
            format!(", tls: {{ ca: \"{}\" }}", missing.display()),
            format!("open certificate {}: No such file", missing.display()),
        ),
        (
            String::new(),
            format!(", tls: {{ certificate: {} }}", pair(&other.cert, &leaf.key)),
            format!("key {key}: is not of the certificate {}", other.cert.display()),
        ),
    ] {
        let sections = balancer::with(&["127.0.0.1:9".parse().unwrap()], &listener, &service);
        let path = authority.path("weir.yaml");
        std::fs::write(&path, sections).unwrap();
        let output = Command::new(need::weir()).args(["check", "-c"]).arg(&path).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(&message), "`{message}` in: {said}");
        assert_eq!(output.status.success(), message == "is valid", "{said}");
        assert!(!said.contains("panicked") && said.lines().count() <= 3, "{said}");
    }
}
