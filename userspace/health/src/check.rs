//! The registry of checks: one line here, one file beside it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::{TcpSocket, TcpStream};
use weir_model::CheckKind;

use crate::{grpc, http, tcp};

/// Why a probe was bad.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection.
    #[error("{0}")]
    Connect(#[from] io::Error),
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The answer was no HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It was to take a VIP's way and did not.
    #[error("the probe left by an interface that is not one of `kernel.interfaces`")]
    Elsewhere,
    /// The answer had another status than the good ones.
    #[error("status {0}")]
    Status(u16),
    /// The answer was none of `grpc.health.v1`.
    #[error("the answer is none of grpc.health.v1: {0}")]
    NotGrpc(&'static str),
    /// The call failed.
    #[error("gRPC status {0}")]
    GrpcStatus(String),
    /// The service says that it does not serve.
    #[error("the service is not serving ({0})")]
    NotServing(u64),
    /// The check is of another type, which the registry rules out.
    #[error("the check is of another type")]
    OtherCheck,
}

/// A probe on its way.
pub(crate) type Probing<'a> = Pin<Box<dyn Future<Output = Result<(), ProbeError>> + 'a>>;

/// What is known of a check without running it.
#[derive(Debug)]
pub struct CheckSpec {
    /// Its name in the configuration.
    pub name: &'static str,
    /// One sentence for the reference.
    pub summary: &'static str,
    /// Whether it is the one that a configuration names.
    pub(crate) is: fn(&CheckKind) -> bool,
    pub(crate) probe: for<'a> fn(&'a CheckKind, SocketAddr, Option<u32>) -> Probing<'a>,
}

/// Every check.
pub static CHECKS: &[CheckSpec] = &[http::SPEC, grpc::SPEC, tcp::SPEC];

/// Probes an address once, from a socket with a mark if there is one.
pub(crate) async fn probe(
    kind: &CheckKind,
    address: SocketAddr,
    mark: Option<u32>,
) -> Result<(), ProbeError> {
    let spec = CHECKS.iter().find(|spec| (spec.is)(kind)).unwrap_or(&tcp::SPEC);
    (spec.probe)(kind, address, mark).await
}

/// Connects to an address, from a socket with a mark if there is one.
pub(crate) async fn connect(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    match mark {
        None => TcpStream::connect(address).await,
        Some(mark) => {
            let socket = weir_net::marked_socket(address, mark)?;
            TcpSocket::from_std_stream(socket).connect(address).await
        }
    }
}
