//! The test harness: a balancer that is the real binary, backends and clients on real sockets,
//! hosts that are network namespaces, packets that are built and read.
#![forbid(unsafe_code)]

pub mod backend;
pub mod balancer;
pub mod client;
pub mod echo;
pub mod flood;
pub mod frames;
pub mod http2;
pub mod need;
pub mod packet;
pub mod raw_backend;
pub mod tls;
pub mod websocket;
pub mod world;
