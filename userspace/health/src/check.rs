//! The registry of checks: one line here, one file beside it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::{TcpSocket, TcpStream};
use weir_model::CheckKind;

use crate::{http, tcp};

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
    /// The answer was not 200 to 399.
    #[error("status {0}")]
    Status(u16),
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
pub static CHECKS: &[CheckSpec] = &[http::SPEC, tcp::SPEC];

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
