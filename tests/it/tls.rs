//! TLS towards clients: versions, names, keys, client certificates, tickets, and what is no TLS at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, HandshakeKind};
use weir_tests::backend::{Backend, Speaks};
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;
use weir_tests::frames::{MAGIC, frame, head};
use weir_tests::http2;
use weir_tests::tls::{ANY_VERSION, Authority, Files, Kind, connect};

const NAME: &str = "a.example";
const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The keys of a listener with these certificates, and more keys of its `tls` and of itself.
fn listener(certificates: &[&Files], tls: &str, more: &str) -> String {
    let list: Vec<_> = certificates.iter().map(ToString::to_string).collect();
    format!(", tls: {{ certificates: [{}]{tls} }}{more}", list.join(", "))
}

/// A balancer with one certificate for `NAME`.
fn with_leaf(tls: &str, more: &str) -> (Authority, Backend, Balancer) {
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &[NAME]);
    let backend = Backend::start("b");
    let keys = listener(&[&leaf], tls, more);
    let weir = Balancer::start(&balancer::with(&[backend.address], &keys, ""));
    (authority, backend, weir)
}

/// Whether a request is answered; with TLS 1.3 a client learns only then that it was refused.
fn serves(weir: &Balancer, config: &Arc<ClientConfig>) -> bool {
    let client = connect(weir.address("web"), NAME, config);
    client.is_ok_and(|mut client| client.try_get("/").is_ok_and(|response| response.status == 200))
}

#[test]
fn both_versions_are_spoken_and_the_oldest_can_be_set() {
    let (authority, _backend, weir) = with_leaf("", "");
    for (versions, version) in
        [(TLS12, rustls::ProtocolVersion::TLSv1_2), (TLS13, rustls::ProtocolVersion::TLSv1_3)]
    {
        let config = Arc::new(authority.client(versions, None));
        let mut client = connect(weir.address("web"), NAME, &config).unwrap();
        let head = client.get("/headers").text();
        assert!(head.contains("x-forwarded-proto: https\n"), "{head}");
        assert_eq!(client.get("/bytes/100000").body.len(), 100_000);
        assert_eq!(client.stream().conn.protocol_version(), Some(version));
    }
    let (authority, _backend, weir) = with_leaf(", min-version: 1.3", "");
    assert!(!serves(&weir, &Arc::new(authority.client(TLS12, None))));
    assert!(serves(&weir, &Arc::new(authority.client(TLS13, None))));
    refusals(&weir, 1);
}

/// Checks how many handshakes were refused.
fn refusals(weir: &Balancer, count: u64) {
    weir.wait_until("refused handshakes", |status| {
        let refused = status["requests"]["refused"].as_array().unwrap();
        let found = refused.iter().find(|refused| refused["reason"] == "tls_handshake");
        found.map_or(0, |found| found["count"].as_u64().unwrap()) == count
    });
}

#[test]
fn alpn_chooses_among_what_the_listener_speaks() {
    let offer = |authority: &Authority, names: &[&str]| {
        let mut config = authority.client(ANY_VERSION, None);
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    let chosen = |weir: &Balancer, config| {
        let client = connect(weir.address("web"), NAME, &config).ok()?;
        let chosen = client.stream().conn.alpn_protocol().unwrap_or(b"none").to_vec();
        Some(String::from_utf8(chosen).unwrap())
    };
    let (both, one) = (["h2", "http/1.1"], ["http/1.1"]);
    let (authority, _backend, weir) = with_leaf("", ", protocols: [http1, http2]");
    assert_eq!(chosen(&weir, offer(&authority, &both)).as_deref(), Some("h2"));
    assert_eq!(chosen(&weir, offer(&authority, &one)).as_deref(), Some("http/1.1"));
    assert_eq!(chosen(&weir, offer(&authority, &[])).as_deref(), Some("none"));
    assert!(serves(&weir, &offer(&authority, &[])), "without ALPN it is HTTP/1.1");
    assert_eq!(chosen(&weir, offer(&authority, &["other"])), None);
    let (authority, _backend, weir) = with_leaf("", "");
    assert_eq!(chosen(&weir, offer(&authority, &both)).as_deref(), Some("http/1.1"));
    let (authority, _backend, weir) = with_leaf("", ", protocols: [http2]");
    assert_eq!(chosen(&weir, offer(&authority, &both)).as_deref(), Some("h2"));
    assert_eq!(chosen(&weir, offer(&authority, &one)), None);
    assert!(!serves(&weir, &offer(&authority, &[])), "HTTP/1.1 is not spoken here");
}

#[test]
fn names_choose_certificates() {
    let authority = Authority::new();
    let first = authority.leaf("first", &["first.example", "127.0.0.1"]);
    let exact = authority.leaf("exact", &["www.site.example", NAME]);
    let wildcard = authority.leaf("wildcard", &["*.site.example"]);
    let backend = Backend::start("b");
    let keys = listener(&[&first, &wildcard, &exact], "", "");
    let weir = Balancer::start(&balancer::with(&[backend.address], &keys, ""));
    let config = Arc::new(authority.client(ANY_VERSION, None));
    for (name, files) in [
        ("first.example", &first),
        ("www.site.example", &exact),
        ("WWW.Site.Example", &exact),
        ("api.site.example", &wildcard),
        (NAME, &exact),
        // An address is no name that a client may ask for.
        ("127.0.0.1", &first),
    ] {
        let client = connect(weir.address("web"), name, &config).unwrap();
        let shown = client.stream().conn.peer_certificates().unwrap();
        assert_eq!(shown, files.chain(), "{name}");
    }
    for unknown in ["unknown.example", "a.b.site.example", "site.example"] {
        let error = connect(weir.address("web"), unknown, &config).unwrap_err();
        let error = format!("{error:?}");
        assert!(error.contains("first.example"), "{unknown}: {error}");
    }
}

#[test]
fn ecdsa_and_rsa_stand_side_by_side() {
    let authority = Authority::new();
    let ecdsa = authority.leaf("ecdsa", &[NAME]);
    let rsa = authority.leaf_of(Kind::Rsa, "rsa", &[NAME]);
    let backend = Backend::start("b");
    let keys = listener(&[&ecdsa, &rsa], "", "");
    let weir = Balancer::start(&balancer::with(&[backend.address], &keys, ""));
    let any = authority.client(ANY_VERSION, None);
    for (config, files) in [(any, &ecdsa), (authority.client_of_rsa(), &rsa)] {
        let mut client = connect(weir.address("web"), NAME, &Arc::new(config)).unwrap();
        assert_eq!(client.stream().conn.peer_certificates().unwrap(), files.chain());
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn client_certificates_are_required_or_optional() {
    let (clients, strangers) = (Authority::new(), Authority::new());
    let (known, unknown) = (clients.leaf("known", &["c"]), strangers.leaf("unknown", &["c"]));
    for (auth, without) in
        [("", false), (", client-auth: required", false), (", client-auth: optional", true)]
    {
        let tls = format!(", client-ca: \"{}\"{auth}", clients.pem().display());
        let (authority, _backend, weir) = with_leaf(&tls, "");
        for versions in [TLS12, TLS13] {
            let with = |identity| Arc::new(authority.client(versions, identity));
            assert!(serves(&weir, &with(Some(&known))), "{auth}");
            assert_eq!(serves(&weir, &with(None)), without, "{auth}");
            assert!(!serves(&weir, &with(Some(&unknown))), "{auth}");
        }
    }
}

/// A session that is resumed shows no certificate: whoever has a ticket must have shown one before, here.
#[test]
fn a_ticket_is_no_client_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let leaf = authority.leaf("leaf", &[NAME]);
    let known = clients.leaf("known", &["c"]);
    let backend = Backend::start("b");
    let sections = |tls: &str| {
        let closed = listener(&[&leaf], tls, "");
        let closed = format!("listeners: [{{ name: closed, address: \"127.0.0.2:0\"{closed} }}, ");
        let open = balancer::with(&[backend.address], &listener(&[&leaf], "", ""), "");
        open.replace("listeners: [", &closed)
    };
    let required = format!(", client-ca: \"{}\"", clients.pem().display());
    for versions in [TLS12, TLS13] {
        let weir = Balancer::start(&sections(""));
        let asks = |listener: &str, config: &Arc<ClientConfig>| {
            let client = connect(weir.address(listener), NAME, config);
            client.ok().and_then(|mut client| {
                let answered = client.try_get("/").is_ok();
                answered.then(|| client.stream().conn.handshake_kind().unwrap())
            })
        };
        let stranger = Arc::new(authority.client(versions, None));
        assert_eq!(asks("closed", &stranger), Some(HandshakeKind::Full));
        weir.write(&sections(&required));
        weir.ok(&["reload"]);
        assert_eq!(asks("closed", &stranger), None, "with a ticket from before");
        assert!(asks("web", &stranger).is_some());
        assert_eq!(asks("closed", &stranger), None, "with a ticket from another listener");
        let friend = Arc::new(authority.client(versions, Some(&known)));
        assert_eq!(asks("closed", &friend), Some(HandshakeKind::Full));
        assert_eq!(asks("closed", &friend), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn sessions_are_resumed_by_every_reactor_and_after_a_reload() {
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &[NAME]);
    let backend = Backend::start("b");
    let keys = listener(&[&leaf], "", "");
    let sections = format!("{}reactors: 4\n", balancer::with(&[backend.address], &keys, ""));
    let weir = Balancer::start(&sections);
    let address = weir.address("web");
    for versions in [TLS12, TLS13] {
        let config = Arc::new(authority.client(versions, None));
        let kind = || {
            let mut client = connect(address, NAME, &config).unwrap();
            // The ticket for the next connection comes with the answer.
            assert_eq!(client.get("/").status, 200);
            client.stream().conn.handshake_kind().unwrap()
        };
        assert_eq!(kind(), HandshakeKind::Full);
        for _ in 0..16 {
            assert_eq!(kind(), HandshakeKind::Resumed);
        }
        weir.write(&sections.replace("name: all", "name: other"));
        weir.ok(&["reload"]);
        assert_eq!(kind(), HandshakeKind::Resumed, "after a reload");
    }
}

#[test]
fn what_is_no_tls_is_closed_and_counted() {
    let (authority, _backend, weir) = with_leaf("", ", timeouts: { header: 300ms }");
    let address = weir.address("web");
    let garbage: Vec<u8> = (0..4_000u32).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    // A record that is larger than any may be, and one that claims to be a hello and is not.
    let large = [&[22, 3, 1, 0xff, 0xff][..], &[0; 1_000]].concat();
    let hollow = [&[22, 3, 1, 0, 4, 1, 0, 0, 0][..], &[0; 100]].concat();
    let plain = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for bytes in [&plain, &garbage, &large, &hollow] {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(bytes).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    }
    refusals(&weir, 4);
    // Nothing, and the beginning of a hello that is never ended.
    for bytes in [&[][..], &[22, 3, 1, 0, 200, 1, 0]] {
        let mut client = Client::connect(address);
        client.send(bytes);
        assert!(client.is_closed());
    }
    refusals(&weir, 6);
    let metrics = Client::connect(weir.status_address()).get("/metrics").text();
    let counted =
        metrics.lines().any(|line| line.contains("tls_handshake") && line.ends_with(" 6"));
    assert!(counted, "{metrics}");
    assert!(serves(&weir, &Arc::new(authority.client(ANY_VERSION, None))));
}

#[test]
fn the_end_is_told_by_close_notify() {
    let (authority, _backend, weir) =
        with_leaf("", ", protocols: [http1, http2], timeouts: { idle: 200ms }");
    let config = Arc::new(authority.client(ANY_VERSION, None));
    let address = weir.address("web");
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        // Closed when it was idle for long.
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut client = connect(address, NAME, &config).unwrap();
        client.send(request);
        let _ = client.response();
        assert!(client.is_closed(), "{request}");
    }
    let mut config = authority.client(ANY_VERSION, None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = connect(address, NAME, &Arc::new(config)).unwrap();
    // The preface, empty settings, their acknowledgement, and GET / with the static table of HPACK.
    let head = b"\x00\x00\x0c\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x07a.examp";
    let frames = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"[..],
        b"\x00\x00\x00\x04\x01\x00\x00\x00\x00",
        head,
    ];
    client.send(frames.concat());
    let mut rest = Vec::new();
    client.stream_mut().read_to_end(&mut rest).expect("an end that was told");
    assert!(rest.len() > 1_024, "with an answer before it");
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const SIZE: usize = 16 * 1024 * 1024;
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &[NAME]);
    let origin = authority.leaf("origin", &["127.0.0.1"]);
    let server = Authority::server(&origin, None, &[]);
    let speaks = Speaks { tls: Some(Arc::new(server)), http2: false };
    let backend = Backend::start_speaking("b", speaks);
    let service = format!(", tls: {{ ca: \"{}\" }}", authority.pem().display());
    let keys = listener(&[&leaf], "", "");
    let weir = Balancer::start(&balancer::with(&[backend.address], &keys, &service));
    let config = authority.client(ANY_VERSION, None);
    let address = weir.address("web");
    http2::run(async move {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(NAME.try_into().unwrap(), socket).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let body = weir_tests::backend::pattern(SIZE, "tls");
        let write = async {
            let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.unwrap();
            writer.write_all(&body).await.unwrap();
            writer.flush().await.unwrap();
        };
        let read = async {
            let mut answer = vec![0; 64 * 1024];
            let mut received = Vec::new();
            loop {
                let count = reader.read(&mut answer).await.unwrap();
                received.extend_from_slice(&answer[..count]);
                let head = received.windows(4).position(|window| window == b"\r\n\r\n");
                if head.is_some_and(|head| received.len() >= head + 4 + SIZE) {
                    break received;
                }
            }
        };
        let ((), received) = tokio::join!(write, read);
        assert!(received.ends_with(&body), "what comes back is what was sent");
    });
}

/// Whoever writes to a client must go on being woken although another task reads from it meanwhile.
#[test]
fn a_client_may_speak_while_its_answer_is_stuck() {
    const SIZE: usize = 24 * 1024 * 1024;
    let (authority, _backend, weir) = with_leaf("", ", protocols: [http2]");
    let mut config = authority.client(ANY_VERSION, None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = connect(weir.address("web"), NAME, &Arc::new(config)).unwrap();
    let window = (1u32 << 30).to_be_bytes();
    let frames = [
        MAGIC,
        &frame("SETTINGS", 0, 0, &[&[0, 4], &window[..]].concat()),
        &frame("WINDOW_UPDATE", 0, 0, &window),
        &frame("HEADERS", 5, 1, &head("GET", &format!("/bytes/{SIZE}"))),
    ];
    client.send(frames.concat());
    for _ in 0..4 {
        // Time for the answer to get stuck; one that does not is read all the same.
        std::thread::sleep(Duration::from_millis(100));
        client.send(frame("PING", 0, 0, &[0; 8]));
    }
    let (mut left, mut bytes) = (SIZE, vec![0; 64 * 1024]);
    while left > 0 {
        left =
            left.saturating_sub(client.stream_mut().read(&mut bytes).expect("more of the answer"));
    }
}
