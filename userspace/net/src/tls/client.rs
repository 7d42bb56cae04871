//! TLS towards backends.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use weir_model::ClientTls;

use super::{Alpn, TlsError, certificate, provider};

/// How a service speaks TLS to its backends. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub(super) config: Arc<rustls::ClientConfig>,
    name: Option<ServerName<'static>>,
    settings: u64,
}

impl ClientConfig {
    /// Reads every file that `tls` names, or the authorities of the system.
    ///
    /// # Errors
    /// A file cannot be read, or what is in it cannot be used; the name is none.
    pub fn load(tls: &ClientTls, alpn: &[Alpn]) -> Result<Self, TlsError> {
        let provider = provider();
        let mut settings = DefaultHasher::new();
        tls.hash(&mut settings);
        alpn.hash(&mut settings);
        let any = std::path::Path::new("");
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new("use TLS", any, error))?;
        let builder = match (&tls.ca, tls.verify) {
            (_, false) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(Arc::clone(&provider)))),
            (path, true) => {
                let roots = path.as_deref().map_or_else(of_the_system, certificate::authorities)?;
                for root in &roots.roots {
                    (&root.subject[..], &root.subject_public_key_info[..]).hash(&mut settings);
                }
                builder.with_root_certificates(roots)
            }
        };
        let mut config = match &tls.certificate {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let certified = certificate::load(files, &provider)?;
                certified.cert.hash(&mut settings);
                let resolver = rustls::sign::SingleCertAndKey::from(certified);
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.alpn_protocols = alpn.iter().map(|alpn| alpn.name()).collect();
        let name = tls.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone())
                .map_err(|_| TlsError::new("use server name", name.as_ref(), "is no DNS name"))
        });
        Ok(Self { config: Arc::new(config), name: name.transpose()?, settings: settings.finish() })
    }

    /// The same number where the same is asked of backends and shown to them: what its files held is part
    /// of that.
    #[must_use]
    pub fn settings(&self) -> u64 {
        self.settings
    }

    /// What the certificate of the backend at that address must be for.
    pub(super) fn name_of(&self, address: IpAddr) -> ServerName<'static> {
        self.name.clone().unwrap_or_else(|| ServerName::IpAddress(address.into()))
    }
}

fn of_the_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = "none found; name them with `ca`, or install ca-certificates";
        return Err(TlsError::new("authorities of the system", "/etc/ssl/certs".as_ref(), why));
    }
    Ok(roots)
}

/// Takes any certificate: what `verify: false` asks for. Signatures are checked all the same, which
/// proves that the backend has the key of whatever it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
