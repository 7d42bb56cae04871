//! Certificates made for a test, and clients that trust them.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;

use crate::client::{Client, PATIENCE};

/// Every version that rustls speaks.
pub const ANY_VERSION: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS12, &rustls::version::TLS13];

/// What a certificate is to be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA P-256.
    #[default]
    Ecdsa,
    /// RSA with 2048 bits.
    Rsa,
    /// ECDSA, out of date.
    Expired,
}

/// An authority with a folder for what it issues; the folder is gone when dropped.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A chain and its key in files. As text, it is a value of the configuration.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ cert: \"{}\", key: \"{}\" }}", self.cert.display(), self.key.display())
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one; its own certificate is in `ca.pem`.
    ///
    /// # Panics
    /// There is no randomness, or no folder.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // A name of its own: one of the same name with another key would be taken for the same.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {count} of a test"));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("write a certificate");
        Self { issuer, folder }
    }

    /// Where its own certificate lies.
    #[must_use]
    pub fn pem(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A path in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues a certificate for these names and addresses, as the files `FILE.pem` and `FILE.key`, put in
    /// place of those that are there.
    #[must_use]
    pub fn leaf(&self, file: &str, names: &[&str]) -> Files {
        self.leaf_of(Kind::Ecdsa, file, names)
    }

    /// The same, of another kind.
    ///
    /// # Panics
    /// A name is none, or the folder is gone.
    #[must_use]
    pub fn leaf_of(&self, kind: Kind, file: &str, names: &[&str]) -> Files {
        let algorithm = match kind {
            Kind::Rsa => &rcgen::PKCS_RSA_SHA256,
            Kind::Ecdsa | Kind::Expired => &rcgen::PKCS_ECDSA_P256_SHA256,
        };
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, file);
        if kind == Kind::Expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (cert, own) = (format!("{file}.pem"), format!("{file}.key"));
        replace(&self.path(&own), key.serialize_pem().as_bytes());
        replace(&self.path(&cert), certificate.pem().as_bytes());
        Files { cert: self.path(&cert), key: self.path(&own) }
    }

    /// A client that trusts this authority, and shows a certificate where it has one.
    ///
    /// # Panics
    /// The files do not hold what they should.
    #[must_use]
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Files>,
    ) -> rustls::ClientConfig {
        let builder = rustls::ClientConfig::builder_with_provider(provider().into())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots());
        match identity {
            None => builder.with_no_client_auth(),
            Some(files) => {
                builder.with_client_auth_cert(files.chain(), files.key()).expect("a key")
            }
        }
    }

    /// A client that trusts this authority, and verifies nothing but signatures by RSA keys of leaves.
    ///
    /// # Panics
    /// There is no such client.
    #[must_use]
    pub fn client_of_rsa(&self) -> rustls::ClientConfig {
        let mut provider = provider();
        let known = provider.signature_verification_algorithms;
        let rsa: Vec<_> = known
            .mapping
            .iter()
            .filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA"))
            .copied()
            .collect();
        provider.signature_verification_algorithms =
            WebPkiSupportedAlgorithms { all: known.all, mapping: rsa.leak() };
        rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(ANY_VERSION)
            .expect("versions")
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A server that shows this certificate, and takes only clients of `clients` where that is given.
    ///
    /// # Panics
    /// The files do not hold what they should.
    #[must_use]
    pub fn server(files: &Files, clients: Option<&Self>, alpn: &[&str]) -> rustls::ServerConfig {
        let provider = Arc::new(provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = Arc::new(clients.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let mut config = builder.with_single_cert(files.chain(), files.key()).expect("a key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        roots
    }
}

impl Files {
    /// The certificates of its chain.
    ///
    /// # Panics
    /// There are none.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let chain = CertificateDer::pem_file_iter(&self.cert).expect("a chain");
        chain.map(|certificate| certificate.expect("a certificate")).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.key).expect("a key")
    }
}

/// A client's TLS connection.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Connects and shakes hands with the server of that name.
///
/// # Errors
/// The server cannot be reached, or one of both refuses the other.
pub fn connect(
    address: SocketAddr,
    name: &str,
    config: &Arc<rustls::ClientConfig>,
) -> std::io::Result<Client<TlsStream>> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    Ok(Client::over(StreamOwned::new(tls, socket)))
}

/// Writes a file beside its place and moves it there: whoever reads sees the old one or the new one.
///
/// # Panics
/// The folder cannot be written to.
pub fn replace(path: &Path, text: &[u8]) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).expect("write a file");
    std::fs::rename(next, path).expect("place a file");
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}
