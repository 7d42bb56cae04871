//! The status port and the admin API over TCP.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::{Client, Response};

use crate::get;

#[test]
fn metrics_are_prometheus_text_and_count() {
    let backend = Backend::start("b");
    let weir = Balancer::start(&balancer::simple(&[backend.address]));
    let mut client = Client::connect(weir.address("web"));
    (0..3).for_each(|_| drop(client.get("/")));
    client.send("GET /\r\n\r\n");
    assert_eq!(client.response().status, 400);
    let page = get(weir.status_address(), "/metrics");
    assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = page.text();
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family.split(' ').next().unwrap().to_owned()), "{line} twice");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(families.contains(name) || families.contains(family.unwrap_or("")), "{line}");
    }
    for expected in [
        "weir_requests_total 4",
        "weir_responses_total{class=\"2xx\"} 3",
        "weir_refusals_total{reason=\"bad_request\"} 1",
        "weir_request_duration_seconds_bucket{le=\"+Inf\"} 3",
        &format!("weir_backend_requests_total{{upstream=\"u\",backend=\"{}\"}} 3", backend.address),
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected} in\n{text}");
    }
}

#[test]
fn live_and_ready() {
    let weir = Balancer::start("listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n");
    let address = weir.status_address();
    assert_eq!((get(address, "/live").status, get(address, "/ready").status), (200, 200));
    assert_eq!(get(address, "/bans").status, 404, "the status port changes nothing");
}

/// A balancer whose admin API is on TCP too.
fn with_admin() -> (Balancer, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sections = "listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n";
    (Balancer::start(&format!("{sections}# admin on {free}\n")), free)
}

#[test]
fn the_admin_api_answers_to_loopback_and_not_to_web_pages() {
    let (_weir, address) = with_admin();
    let ask = |head: &str| -> Response {
        let mut client = Client::connect(address);
        client.send(format!("{head}\r\n\r\n"));
        client.response()
    };
    assert_eq!(ask(&format!("GET /status HTTP/1.1\r\nHost: {address}")).status, 200);
    assert_eq!(ask("GET /status HTTP/1.1\r\nHost: evil.example:8001").status, 403);
    let from_page =
        format!("POST /reload HTTP/1.1\r\nHost: {address}\r\nOrigin: http://evil.example");
    assert_eq!(ask(&from_page).status, 403);
    assert_eq!(ask(&format!("PUT /bans HTTP/1.1\r\nHost: {address}")).status, 405);
    assert_eq!(ask(&format!("GET /nothing HTTP/1.1\r\nHost: {address}")).status, 404);
    let off = ask(&format!("GET /bans HTTP/1.1\r\nHost: {address}"));
    assert_eq!(off.status, 409);
    assert!(off.text().contains("the kernel side is off"), "{}", off.text());
}
