//! Active checks take dead backends out and bring live ones back.

use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;

fn sections(backends: &[std::net::SocketAddr], check: &str) -> String {
    let sections = balancer::simple(backends);
    sections.replacen(
        "upstreams: [{ name: u,",
        &format!("upstreams: [{{ name: u, health: {{ active: {{ {check} }} }},"),
        1,
    )
}

fn health(weir: &Balancer, index: usize, expected: &str) {
    weir.wait_until(&format!("backend {index} is {expected}"), |status| {
        status["upstreams"][0]["backends"][index]["health"] == expected
    });
}

#[test]
fn a_backend_that_dies_gets_no_requests_until_it_is_back() {
    for check in
        ["type: http, path: /health, interval: 50ms, fall: 2, rise: 1", "type: tcp, interval: 50ms"]
    {
        let (a, b) = (Backend::start("a"), Backend::start("b"));
        let (address, weir) =
            (b.address, Balancer::start(&sections(&[a.address, b.address], check)));
        health(&weir, 0, "up");
        health(&weir, 1, "up");
        drop(b);
        health(&weir, 1, "down");
        let mut client = Client::connect(weir.address("web"));
        for _ in 0..10 {
            assert_eq!(client.get("/").header("x-backend"), Some("a"));
        }
        let _back = Backend::start_at("b again", address);
        health(&weir, 1, "up");
        let names: Vec<_> =
            (0..4).map(|_| client.get("/").header("x-backend").map(str::to_owned)).collect();
        assert!(names.contains(&Some("b again".to_owned())), "{names:?}");
    }
}

#[test]
fn every_backend_down_is_503() {
    let a = Backend::start("a");
    let weir = Balancer::start(&sections(&[a.address], "interval: 50ms, fall: 1"));
    health(&weir, 0, "up");
    drop(a);
    health(&weir, 0, "down");
    let response = Client::connect(weir.address("web")).get("/");
    assert_eq!(response.status, 503);
    assert!(response.text().contains("no backend is available"), "{}", response.text());
}
