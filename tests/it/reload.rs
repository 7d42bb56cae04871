//! A reload loses no request, and a bad one changes nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::Signal;
use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;

use crate::get;

fn generation(weir: &Balancer, expected: u64) {
    weir.wait_until("the generation", |status| status["generation"] == expected);
}

#[test]
fn reloads_under_load_lose_no_request() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let one = balancer::simple(&[a.address]);
    let both = balancer::simple(&[a.address, b.address]);
    let weir = Balancer::start(&one);
    let address = weir.address("web");
    let (end, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for keep in [true, true, false, false] {
            let (end, served) = (&end, &served);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                while !end.load(Ordering::Relaxed) {
                    if !keep {
                        client = Client::connect(address);
                    }
                    assert_eq!(client.get("/").status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..20u64 {
            weir.write(if round % 2 == 0 { &both } else { &one });
            weir.signal(Signal::SIGHUP);
            generation(&weir, round + 2);
        }
        end.store(true, Ordering::Relaxed);
    });
    assert!(served.load(Ordering::Relaxed) > 100);
    assert_eq!(weir.status()["requests"]["refused"].as_array().unwrap().len(), 0);
}

#[test]
fn a_bad_configuration_is_refused_and_the_old_one_stays() {
    let a = Backend::start("a");
    let weir = Balancer::start(&balancer::simple(&[a.address]));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = taken.local_addr().unwrap();
    let good = balancer::simple(&[a.address]);
    for (sections, message) in [
        (format!("{good}lisners: []\n"), "unknown key `lisners`".to_owned()),
        (
            good.replace("127.0.0.1:0", &in_use.to_string()),
            format!("listen on {in_use}: the port is in use"),
        ),
    ] {
        weir.write(&sections);
        let output = weir.weir(&["reload"]);
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(&message), "{stderr}");
        assert_eq!(weir.status()["generation"], 1);
        assert_eq!(get(weir.address("web"), "/").status, 200);
    }
}

/// Connections are accepted for their listener: what was begun there is served, though it is gone.
#[test]
fn a_connection_that_was_accepted_outlives_its_listener() {
    let a = Backend::start("a");
    let one = balancer::simple(&[a.address]);
    let more = "listeners: [{ name: more, address: \"127.0.0.2:0\", proxy-protocol: true, \
                protocols: [http1, http2] }, ";
    let weir = Balancer::start(&one.replace("listeners: [", more));
    let mut client = Client::connect(weir.address("more"));
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 ");
    weir.wait_until("it is accepted", |status| status["listeners"][0]["connections"] == 1);
    weir.write(&one);
    weir.ok(&["reload"]);
    client.send("4000 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
}

#[test]
fn listeners_come_and_go() {
    let a = Backend::start("a");
    let one = balancer::simple(&[a.address]);
    let both = one.replace(
        "listeners: [",
        "listeners: [{ name: more, address: \"127.0.0.2:0\", limits: { requests: 1 } }, ",
    );
    let weir = Balancer::start(&one);
    weir.write(&both);
    weir.ok(&["reload"]);
    let more = weir.address("more");
    let mut client = Client::connect(more);
    assert_eq!(client.get("/").status, 200);
    assert!(client.is_closed(), "the limit of its listener");
    weir.write(&both.replace("requests: 1", "requests: 100"));
    weir.ok(&["reload"]);
    assert_eq!(weir.address("more"), more, "the socket is the same");
    let mut client = Client::connect(more);
    assert_eq!((client.get("/").status, client.get("/").status), (200, 200));
    weir.write(&one);
    weir.ok(&["reload"]);
    assert!(client.is_closed(), "idle connections of a removed listener are closed");
    assert!(std::net::TcpStream::connect(more).is_err());
}
