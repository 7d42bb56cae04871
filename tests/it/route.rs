//! Requests go where the most specific route leads.

use weir_tests::backend::Backend;
use weir_tests::balancer::Balancer;
use weir_tests::client::Client;

#[test]
fn hosts_and_paths_choose_the_service() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let weir = Balancer::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes:\n\
         \x20 - {{ name: api, hosts: [api.example], paths: [/v1, \"~ ^/v[0-9]+/items$\"], service: a }}\n\
         \x20 - {{ name: exact, hosts: [\"*.example\"], paths: [\"= /only\"], service: b }}\n\
         \x20 - {{ name: rest, hosts: [rest.test], service: c }}\n\
         services:\n\
         \x20 - {{ name: a, url: \"http://{}\" }}\n\
         \x20 - {{ name: b, url: \"http://{}\" }}\n\
         \x20 - {{ name: c, url: \"http://{}\" }}\n",
        a.address, b.address, c.address
    ));
    let mut client = Client::connect(weir.address("web"));
    for (host, path, expected) in [
        ("api.example", "/v1/x", Some("a")),
        ("API.example:8000", "/v1?x=/other", Some("a")),
        ("api.example", "/v2/items", Some("a")),
        ("api.example", "/v2/item", None),
        ("x.y.example", "/only", Some("b")),
        ("x.y.example", "/only/not", None),
        ("rest.test", "/anything", Some("c")),
        ("other.test", "/anything", None),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.header("x-backend"), expected, "{host}{path}");
        assert_eq!(response.status, if expected.is_some() { 200 } else { 404 }, "{host}{path}");
    }
}
