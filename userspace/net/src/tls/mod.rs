//! TLS by rustls, with aws-lc-rs: the only place that knows either.

mod certificate;
mod client;
mod server;
mod stream;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;

pub use client::ClientConfig;
pub use server::{ServerConfig, Tickets};
pub use stream::TlsStream;

/// What a connection speaks above TLS, as ALPN names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `http/1.1`; also where nothing was negotiated.
    Http1,
    /// `h2`
    Http2,
}

impl Alpn {
    fn name(self) -> Vec<u8> {
        match self {
            Self::Http1 => b"http/1.1".to_vec(),
            Self::Http2 => b"h2".to_vec(),
        }
    }
}

/// Certificates or keys that cannot be used.
#[derive(Debug)]
pub struct TlsError {
    what: &'static str,
    path: PathBuf,
    why: String,
}

impl TlsError {
    fn new(what: &'static str, path: &Path, why: impl fmt::Display) -> Self {
        Self { what, path: path.to_owned(), why: why.to_string() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, path, why } = self;
        write!(f, "{what} {}: {why}", path.display())
    }
}

impl std::error::Error for TlsError {}

/// With the cheapest ciphers first: AES-128 takes ten rounds where AES-256 takes fourteen, and processors
/// have instructions for the SHA-256 that goes with it, but not for SHA-384, an eighth of a handshake.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    Arc::new(provider)
}

/// What rustls says of a connection that failed, as an error of the system.
fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
