//! TLS on either side: which certificates, whom to trust.

use std::path::PathBuf;

/// `tls:` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Never empty; the first one serves clients that name no host, or an unknown one.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities whose client certificates are accepted; `None` is none asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is served.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key of the leaf.
    pub key: PathBuf,
}

/// What is asked of a client where `client-ca` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Without a certificate there is no connection.
    #[default]
    Required,
    /// A certificate may be missing; one that is shown must be good.
    Optional,
}

impl ClientAuth {
    /// Every choice with the word users type for it.
    pub const NAMES: [(&'static str, Self); 2] =
        [("required", Self::Required), ("optional", Self::Optional)];
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    Tls12,
    /// TLS 1.3
    Tls13,
}

impl TlsVersion {
    /// Every version with the word users type for it.
    pub const NAMES: [(&'static str, Self); 2] = [("1.2", Self::Tls12), ("1.3", Self::Tls13)];
}

/// `tls:` of a service: how backends are spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// Whether the backend's certificate is verified.
    pub verify: bool,
    /// Authorities that are trusted; `None` is those of the system.
    pub ca: Option<PathBuf>,
    /// The name that is sent and that the certificate must have; `None` is the backend's address.
    pub server_name: Option<String>,
    /// What we show of ourselves.
    pub certificate: Option<CertificateFiles>,
}
