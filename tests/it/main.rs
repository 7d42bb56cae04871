//! The integration tests: the real binary, real sockets, real packets. One module a concern.

mod balance;
mod bans;
mod bans_survive;
mod cli;
mod compress;
mod decap;
mod framing;
mod fuzzing;
mod grpc;
mod guard;
mod guard_packets;
mod health;
mod http1;
mod http2;
mod http2_cases;
mod http2_floods;
mod http2_life;
mod limits;
mod netns;
mod packet;
mod reload;
mod resilience;
mod route;
mod seamless;
mod site;
mod sock;
mod status;
mod stop;
mod tcp;
mod tidy;
mod tls;
mod tls_backends;
mod tls_renewal;
mod upgrade;
mod vip_model;
mod vips;
mod vips_probes;
mod vips_survive;
mod websocket;

use std::net::SocketAddr;

use weir_tests::client::{Client, Response};

/// One GET on a connection of its own.
fn get(address: SocketAddr, path: &str) -> Response {
    Client::connect(address).get(path)
}
