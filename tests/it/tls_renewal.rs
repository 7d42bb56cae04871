//! Certificates whose files change while Weir runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::Resumption;
use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::tls::{ANY_VERSION, Authority, Files, connect, replace};

const NAME: &str = "a.example";
/// How long a new file may take to be in force.
const BOUND: Duration = Duration::from_secs(10);

fn with_leaf() -> (Authority, Files, Backend, Balancer) {
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &[NAME]);
    let backend = Backend::start("b");
    let keys = format!(", tls: {{ certificates: [{leaf}] }}");
    let weir = Balancer::start(&balancer::with(&[backend.address], &keys, ""));
    (authority, leaf, backend, weir)
}

/// A client whose every handshake is a full one, so that it sees the certificate in force.
fn client(authority: &Authority) -> Arc<ClientConfig> {
    let mut config = authority.client(ANY_VERSION, None);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Waits until the certificate of these files is shown.
fn wait_for(weir: &Balancer, config: &Arc<ClientConfig>, files: &Files) {
    let (address, chain, deadline) = (weir.address("web"), files.chain(), Instant::now() + BOUND);
    loop {
        let client = connect(address, NAME, config).unwrap();
        if client.stream().conn.peer_certificates().unwrap() == chain {
            return;
        }
        assert!(Instant::now() < deadline, "the old certificate is still in force: {}", weir.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the log says so.
fn wait_for_log(weir: &Balancer, text: &str) {
    let deadline = Instant::now() + BOUND;
    while !weir.log().contains(text) {
        assert!(Instant::now() < deadline, "`{text}` in: {}", weir.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn renewal_loses_no_request() {
    let (authority, _, _backend, weir) = with_leaf();
    let config = client(&authority);
    let address = weir.address("web");
    let (end, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for keep in [true, false, false] {
            let (end, served, config) = (&end, &served, &config);
            scope.spawn(move || {
                let mut client = connect(address, NAME, config).unwrap();
                while !end.load(Ordering::Relaxed) {
                    if !keep {
                        client = connect(address, NAME, config).unwrap();
                    }
                    assert_eq!(client.get("/").status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            let next = authority.leaf("leaf", &[NAME]);
            wait_for(&weir, &config, &next);
        }
        end.store(true, Ordering::Relaxed);
    });
    assert!(served.load(Ordering::Relaxed) > 50);
    let status = weir.status();
    assert_eq!(status["requests"]["refused"].as_array().unwrap().len(), 0, "{status:#}");
    assert!(weir.log().contains("certificates in force: "), "{}", weir.log());
}

#[test]
fn broken_files_leave_what_is_in_force() {
    let (authority, leaf, _backend, weir) = with_leaf();
    let config = client(&authority);
    let chain = leaf.chain();
    let same_as_before = || {
        let mut client = connect(weir.address("web"), NAME, &config).unwrap();
        assert_eq!(client.stream().conn.peer_certificates().unwrap(), chain);
        assert_eq!(client.get("/").status, 200);
    };
    let (cert, key) = (leaf.cert.display(), leaf.key.display());
    replace(&leaf.cert, b"no certificate at all\n");
    wait_for_log(
        &weir,
        &format!("stay as they were: listener web: read certificate {cert}: holds no PEM"),
    );
    same_as_before();
    let other = authority.leaf("other", &[NAME]);
    replace(&leaf.cert, &std::fs::read(&other.cert).unwrap());
    wait_for_log(
        &weir,
        &format!("stay as they were: listener web: key {key}: is not of the certificate {cert}"),
    );
    same_as_before();
    std::fs::remove_file(&leaf.key).unwrap();
    wait_for_log(&weir, &format!("{key} is gone; what was read of it stays"));
    same_as_before();
    // A reload says the same, and changes nothing.
    let refused = weir.weir(&["reload"]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains(&format!("open key {key}: No such")));
    same_as_before();
    replace(&leaf.key, &std::fs::read(&other.key).unwrap());
    wait_for(&weir, &config, &other);
}

#[test]
fn a_broken_file_keeps_no_other_from_being_renewed() {
    let authority = Authority::new();
    let (leaf, broken) = (authority.leaf("leaf", &[NAME]), authority.leaf("broken", &[NAME]));
    let backend = Backend::start("b");
    let keys = format!(", tls: {{ certificates: [{leaf}] }}");
    let other = format!(
        "listeners: [{{ name: other, address: \"127.0.0.2:0\", tls: {{ certificates: [{broken}] }} }}, "
    );
    let sections = balancer::with(&[backend.address], &keys, "").replace("listeners: [", &other);
    let (weir, config) = (Balancer::start(&sections), client(&authority));
    let before = broken.chain();
    replace(&broken.cert, b"no certificate at all\n");
    wait_for_log(&weir, "stay as they were: listener other: read certificate");
    let next = authority.leaf("leaf", &[NAME]);
    wait_for(&weir, &config, &next);
    let shown = connect(weir.address("other"), NAME, &config).unwrap();
    assert_eq!(shown.stream().conn.peer_certificates().unwrap(), before);
    assert_eq!(weir.log().matches("listener other: read").count(), 1, "it is said once");
}

#[test]
fn authorities_of_clients_are_renewed_too() {
    let (old, new) = (Authority::new(), Authority::new());
    let (known, next) = (old.leaf("known", &["c"]), new.leaf("next", &["c"]));
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &[NAME]);
    let backend = Backend::start("b");
    let ca = authority.path("clients.pem");
    replace(&ca, &std::fs::read(old.pem()).unwrap());
    let keys = format!(", tls: {{ certificates: [{leaf}], client-ca: \"{}\" }}", ca.display());
    let weir = Balancer::start(&balancer::with(&[backend.address], &keys, ""));
    let serves = |files| {
        let config = Arc::new(authority.client(ANY_VERSION, Some(files)));
        let client = connect(weir.address("web"), NAME, &config);
        client.is_ok_and(|mut client| client.try_get("/").is_ok())
    };
    assert!(serves(&known) && !serves(&next));
    replace(&ca, &std::fs::read(new.pem()).unwrap());
    let deadline = Instant::now() + BOUND;
    while !serves(&next) {
        assert!(Instant::now() < deadline, "{}", weir.log());
    }
    assert!(!serves(&known));
}
