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

/// A configuration with one listener, these routes, and services a and b.
fn with_routes(a: &Backend, b: &Backend, routes: &[&str]) -> Balancer {
    Balancer::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes:\n  - {}\n\
         services:\n\
         \x20 - {{ name: a, url: \"http://{}\", buffer-request: 1MiB }}\n\
         \x20 - {{ name: b, url: \"http://{}\" }}\n",
        routes.join("\n  - "),
        a.address,
        b.address
    ))
}

#[test]
fn requests_are_told_apart_by_what_they_say() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let weir = with_routes(
        &a,
        &b,
        &[
            "{ name: methods, paths: [/m], methods: [POST, PUT], service: b }",
            "{ name: headers, paths: [/m], headers: { x-version: \"~ ^2\" }, service: b }",
            "{ name: query, paths: [/m], query: { beta: \"1\" }, service: b }",
            "{ name: cookies, paths: [/m], cookies: { group: b, session: \"!\" }, service: b }",
            "{ name: near, paths: [/near], sources: [127.0.0.0/8], service: b }",
            "{ name: far, paths: [/far], sources: [192.0.2.0/24], service: b }",
            "{ name: rest, service: a }",
        ],
    );
    let mut client = Client::connect(weir.address("web"));
    for (request, expected) in [
        ("GET /m", "a"),
        ("PUT /m", "b"),
        ("GET /m HTTP/1.1\r\nX-Version: 2.1", "b"),
        ("GET /m HTTP/1.1\r\nX-Version: 12", "a"),
        ("GET /m?a=b&beta=1", "b"),
        ("GET /m?beta=10", "a"),
        ("GET /m HTTP/1.1\r\nCookie: x=y; group=b", "b"),
        ("GET /m HTTP/1.1\r\nCookie: group=b; session=s", "a"),
        ("GET /near", "b"),
        ("GET /far", "a"),
    ] {
        let version = if request.contains("HTTP/1.1") { "" } else { " HTTP/1.1" };
        client.send(format!("{request}{version}\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().header("x-backend"), Some(expected), "{request}");
    }
}

#[test]
fn requests_are_changed_on_their_way() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let weir = with_routes(
        &a,
        &b,
        &[
            "{ name: strip, paths: [/api/v1], strip-path: true, service: a }",
            "{ name: regex, paths: [\"~ ^/user/([0-9]+)$\"], rewrite: { path: \"/headers/$1\" }, \
             service: a }",
            "{ name: prefix, paths: [/old/], rewrite: { path: /headers, host: new.example }, \
             service: a, request-headers: { remove: [x-secret, user-agent], set: { x-tier: gold }, \
             add: { x-more: \"1\" } }, response-headers: { remove: [x-backend], set: { x-by: us } } }",
        ],
    );
    let mut client = Client::connect(weir.address("web"));
    for (path, expected) in [
        ("/api/v1/headers", "GET /headers\n"),
        ("/api/v1/headers?q=1", "GET /headers?q=1\n"),
        ("/api/x/../v1/headers", "GET /headers\n"),
        ("/user/17?x", "GET /headers/17?x\n"),
        ("/old/deep/er", "GET /headers/deep/er\n"),
    ] {
        let text = client.get(path).text();
        assert!(text.starts_with(expected), "{path}: {text}");
    }
    assert_eq!(client.get("/api/v1").status, 200);
    client.send(
        "GET /old/x HTTP/1.1\r\nHost: a\r\nX-Secret: 1\r\nUser-Agent: u\r\nX-Tier: tin\r\n\
         X-More: 0\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.header("x-by"), response.header("x-backend")), (Some("us"), None));
    let text = response.text();
    assert!(
        text.contains("host: new.example\n") && text.contains("x-forwarded-host: a\n"),
        "{text}"
    );
    assert!(text.contains("x-tier: gold\n") && !text.contains("tin"), "{text}");
    assert!(text.contains("x-more: 0\n") && text.contains("x-more: 1\n"), "{text}");
    assert!(!text.contains("x-secret") && !text.contains("user-agent"), "{text}");
}

#[test]
fn routes_answer_and_send_elsewhere() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let weir = with_routes(
        &a,
        &b,
        &[
            "{ name: r, paths: [/r], redirect: { to: \"https://{host}/new{path}{query}\", status: 308 } }",
            "{ name: f, paths: [/f], respond: { status: 418, body: teapot } }",
        ],
    );
    let mut client = Client::connect(weir.address("web"));
    let response = client.get("/r/x?y=z");
    let to = "https://a.example/new/r/x?y=z";
    assert_eq!((response.status, response.header("location")), (308, Some(to)));
    let response = client.get("/f");
    assert_eq!((response.status, response.text().as_str()), (418, "teapot"));
    client.send("HEAD /f HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.try_response(true).unwrap().header("content-length"), Some("6"));
    client.send("POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().status, 418);
    assert_eq!(client.get("/f").status, 418, "the connection goes on");
    assert_eq!(a.requests() + b.requests(), 0);
}

#[test]
fn what_weir_writes_itself_can_be_changed_too() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let ours = "x-forwarded-for, x-forwarded-host, x-forwarded-port, x-request-id";
    let remove =
        format!("request-headers: {{ remove: [{ours}], set: {{ x-forwarded-proto: https }} }}");
    let answers = "response-headers: { remove: [via, date], set: { x-by: us, content-type: a/b } }";
    let weir = with_routes(
        &a,
        &b,
        &[
            &format!("{{ name: all, paths: [/headers], service: a, {remove}, {answers} }}"),
            &format!("{{ name: own, paths: [/own], respond: {{ body: x }}, {answers} }}"),
            &format!("{{ name: to, paths: [/to], redirect: {{ to: /headers }}, {answers} }}"),
        ],
    );
    let mut client = Client::connect(weir.address("web"));
    client.send("GET /headers HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "GET /headers\nhost: a\nx-forwarded-proto: https\n");
    for response in [response, client.get("/own"), client.get("/to")] {
        let all = |name: &str| {
            let named = response.headers.iter().filter(|(known, _)| known == name);
            named.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!((all("via"), all("date")), (vec![], vec![]), "{response:?}");
        assert_eq!(
            (all("x-by"), all("content-type")),
            (vec!["us".to_owned()], vec!["a/b".to_owned()])
        );
    }
}

#[test]
fn requests_are_split_by_weight_and_clients_stay() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let parts = "split: [{ service: a, weight: 3 }, { service: b, weight: 1 }]";
    let weir = with_routes(
        &a,
        &b,
        &[
            &format!("{{ name: any, paths: [/any], {parts} }}"),
            &format!("{{ name: stay, paths: [/stay], {parts}, split-on: {{ cookie: id }} }}"),
        ],
    );
    let mut client = Client::connect(weir.address("web"));
    let count = (0..400).filter(|_| client.get("/any").header("x-backend") == Some("b")).count();
    assert!((50..150).contains(&count), "{count} of 400");
    let mut of = |id: usize| {
        client.send(format!("GET /stay HTTP/1.1\r\nHost: a\r\nCookie: id={id}\r\n\r\n"));
        client.response().header("x-backend").unwrap_or("").to_owned()
    };
    let first: Vec<_> = (0..60).map(&mut of).collect();
    assert_eq!((0..60).map(&mut of).collect::<Vec<_>>(), first);
    assert!(first.iter().any(|it| it == "a") && first.iter().any(|it| it == "b"));
}

#[test]
fn copies_go_to_the_mirror_and_nobody_waits_for_it() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let weir =
        with_routes(&a, &b, &["{ name: all, service: a, mirror: { service: b }, paths: [/] }"]);
    let mut client = Client::connect(weir.address("web"));
    assert_eq!(client.get("/").header("x-backend"), Some("a"));
    let body = "x".repeat(100_000);
    let length = body.len();
    client
        .send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"));
    assert_eq!(client.response().body.len(), length);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while b.requests() < 2 {
        assert!(std::time::Instant::now() < deadline, "{} copies", b.requests());
        std::thread::yield_now();
    }
    assert_eq!(a.requests(), 2);
    // A mirror that is gone costs nobody anything.
    drop(b);
    assert_eq!(client.get("/").status, 200);
    let total = weir.status()["requests"]["total"].as_u64();
    assert_eq!(total, Some(3), "copies are no requests of clients");
    weir.wait_until("the copy has failed", |status| {
        let upstreams = status["upstreams"].as_array().unwrap();
        upstreams.iter().any(|upstream| upstream["backends"][0]["failures"] != 0)
    });
    let refused = &weir.status()["requests"]["refused"];
    assert!(refused.as_array().unwrap().is_empty(), "nor are their failures: {refused}");
}

#[test]
fn explain_tells_what_serves_a_request_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    let text = "listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n\
         routes:\n\
         \x20 - { name: canary, paths: [/x], headers: { x-canary: \"1\" }, respond: { body: c } }\n\
         \x20 - { name: posts, paths: [/x], methods: [POST], service: s }\n\
         \x20 - { name: rest, paths: [/x], service: s }\n\
         \x20 - { name: only, paths: [\"= /x/only\"], service: s }\n\
         services: [{ name: s, url: \"http://127.0.0.1:1\" }]\n";
    std::fs::write(&path, text).unwrap();
    let explain = |arguments: &[&str]| {
        let output = std::process::Command::new(weir_tests::need::weir())
            .args(["route", "explain", "-c"])
            .arg(&path)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (found, text, _) = explain(&["http://a.example/x/y"]);
    assert!(found && text.contains("passed over  canary: headers: x-canary"), "{text}");
    assert!(text.contains("passed over  posts: methods: GET is none of them"), "{text}");
    assert!(text.contains("route        rest (by prefix)\naction       service s"), "{text}");
    let (found, text, _) = explain(&["http://a.example//x/./only"]);
    assert!(found && text.contains("route        only (by exact path)"), "{text}");
    let (found, text, _) = explain(&["http://a.example/x", "-H", "X-Canary: 1", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(found && answer["route"] == "canary" && answer["action"] == "answered with 200");
    let (found, text, _) = explain(&["http://a.example/y"]);
    assert!(!found && text.contains("none: answered with 404"), "{text}");
    let (found, _, errors) = explain(&["ftp://a.example/y"]);
    assert!(!found && errors.contains("is no URL like"), "{errors}");
}
