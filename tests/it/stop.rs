//! Stopping: gracefully, within the patience of the configuration, or at once.

use nix::sys::signal::Signal;
use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;

/// A balancer with a request of so many milliseconds open at its backend.
fn with_open_request(sections: &str, milliseconds: u32) -> (Backend, Balancer, Client) {
    let backend = Backend::start("a");
    let weir = Balancer::start(&(balancer::simple(&[backend.address]) + sections));
    let mut client = Client::connect(weir.address("web"));
    client.send(format!("GET /slow/{milliseconds} HTTP/1.1\r\nHost: a\r\n\r\n"));
    weir.wait_until("the request is open", |status| {
        status["upstreams"][0]["backends"][0]["open"] == 1
    });
    (backend, weir, client)
}

#[test]
fn open_requests_are_answered_and_idle_connections_have_one_more() {
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        let (_backend, mut weir, mut busy) = with_open_request("drain-timeout: 3s\n", 500);
        let address = weir.address("web");
        let mut idle = [Client::connect(address), Client::connect(address)];
        idle.iter_mut().for_each(|idle| assert_eq!(idle.get("/").status, 200));
        weir.signal(signal);
        weir.wait_until("it is draining", |status| status["draining"] == true);
        // What a client sends that does not know yet is answered, too.
        let last = idle[0].get("/");
        assert_eq!((last.status, last.header("connection")), (200, Some("close")));
        let response = busy.response();
        assert_eq!(response.text(), "slow\n");
        assert!(busy.is_closed());
        assert!(idle.iter_mut().all(Client::is_closed));
        assert!(weir.wait(), "{}", weir.log());
        assert!(weir.log().contains("every open request was answered"));
        assert!(std::net::TcpStream::connect(address).is_err());
        assert!(!weir.file("admin.sock").exists());
    }
}

#[test]
fn what_waits_to_be_accepted_is_answered() {
    let mut weir = Balancer::start(
        "listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n\
         routes: [{ name: own, respond: { body: here } }]\n\
         reactors: 1\n",
    );
    let address = weir.address("web");
    weir.signal(Signal::SIGSTOP);
    let clients = (0..400).map(|_| {
        let mut client = Client::connect(address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    });
    let clients: Vec<_> = clients.collect();
    weir.signal(Signal::SIGTERM);
    weir.signal(Signal::SIGCONT);
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    assert!(weir.wait(), "{}", weir.log());
}

#[test]
fn patience_ends() {
    let (_backend, mut weir, mut busy) = with_open_request("drain-timeout: 200ms\n", 60_000);
    weir.ok(&["stop"]);
    assert!(weir.wait());
    assert!(busy.try_response(false).is_err());
    assert!(weir.log().contains("drain-timeout is over"), "{}", weir.log());
}

#[test]
fn interrupt_and_stop_fast_wait_for_nothing() {
    let (_backend, mut weir, mut busy) = with_open_request("", 60_000);
    weir.signal(Signal::SIGINT);
    assert!(weir.wait());
    assert!(busy.try_response(false).is_err());
    let (_backend, mut weir, _busy) = with_open_request("", 60_000);
    weir.ok(&["stop", "--fast"]);
    assert!(weir.wait());
}

#[test]
fn a_second_signal_ends_the_waiting() {
    let (_backend, mut weir, _busy) = with_open_request("", 60_000);
    weir.signal(Signal::SIGTERM);
    weir.wait_until("it is draining", |status| status["draining"] == true);
    weir.signal(Signal::SIGTERM);
    assert!(weir.wait());
}
