//! The certificate of every target, and clients that trust it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore};

/// The name in the certificate, and what clients ask for.
pub(crate) const HOST: &str = "bench.test";

/// Writes `bench.cert`, `bench.key` and both as `bench.pem`: ECDSA P-256, for everyone alike.
pub(crate) fn write_certificate(folder: &Path) -> Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a key")?;
    let parameters = CertificateParams::new([HOST.to_owned(), "localhost".to_owned()]);
    let certificate = parameters.context("name a certificate")?.self_signed(&key)?;
    let (mut pem, key) = (certificate.pem(), key.serialize_pem());
    for (name, text) in [("bench.cert", &pem), ("bench.key", &key)] {
        std::fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    write!(pem, "{key}")?;
    std::fs::write(folder.join("bench.pem"), pem).context("write bench.pem")
}

/// How a client speaks TLS 1.3; `resumes` tells whether it keeps tickets.
pub(crate) fn client(cert: &Path, protocol: &[u8], resumes: bool) -> Result<Arc<ClientConfig>> {
    let cert = CertificateDer::from_pem_file(cert).context("read the certificate")?;
    let mut roots = RootCertStore::empty();
    roots.add(cert)?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // As browsers and h2load list them: nobody is to choose another for Weir's sake.
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

pub(crate) fn connection(config: &Arc<ClientConfig>) -> Result<ClientConnection> {
    let name = ServerName::try_from(HOST).context("a server's name")?;
    ClientConnection::new(Arc::clone(config), name).context("begin TLS")
}
