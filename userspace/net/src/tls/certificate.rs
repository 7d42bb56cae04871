//! Certificates and keys from PEM files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use weir_model::CertificateFiles;

use super::TlsError;

/// Bytes of a certificate's or key's file.
const FILE_SIZE_MAX: u64 = 1024 * 1024;

/// Reads a chain with its key.
///
/// # Errors
/// A file cannot be read, holds something else, or the key is not the certificate's.
pub(super) fn load(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let key = read(&files.key, "open key")?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| TlsError::new("read key", &files.key, no_pem("private key", error)))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsError::new("read key", &files.key, error))?;
    let certified = CertifiedKey::new(chain(&files.cert)?, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(certified)
        }
        Err(_) => {
            let why = format!("is not of the certificate {}", files.cert.display());
            Err(TlsError::new("key", &files.key, why))
        }
    }
}

/// The certificates of a file, in their order; at least one.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, "open certificate")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(TlsError::new("read certificate", path, "holds no PEM certificate")),
        Err(error) => Err(TlsError::new("read certificate", path, no_pem("certificate", error))),
    }
}

/// The authorities of a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| TlsError::new("read certificate", path, error))?;
    }
    Ok(roots)
}

fn no_pem(what: &str, error: rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::NoItemsFound => format!("holds no PEM {what}"),
        error => error.to_string(),
    }
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(size) if size as u64 > FILE_SIZE_MAX => {
            Err(TlsError::new(what, path, "larger than 1 MiB"))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(TlsError::new(what, path, error)),
    }
}

/// The certificates of a listener, found by the name that a client asks for: the very name, then the
/// wildcard one label up, then the first certificate of all. Where several serve a name, the first one
/// whose key the client can verify: so ECDSA and RSA stand side by side.
#[derive(Debug)]
pub(super) struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    /// Indices into `all`, in the order of the configuration; wildcards as `*.example.com`.
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    pub(super) fn load(
        files: &[CertificateFiles],
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let mut certificates = Self { all: Vec::new(), by_name: HashMap::new() };
        for files in files {
            let certified = load(files, provider)?;
            for name in names(&certified, &files.cert)? {
                certificates.by_name.entry(name).or_default().push(certificates.all.len());
            }
            certificates.all.push(Arc::new(certified));
        }
        Ok(certificates)
    }

    fn named(&self, name: &str) -> Option<&[usize]> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let found = self.by_name.get(&name);
        found.or_else(|| self.by_name.get(&wildcard()?)).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits = |certified: &&Arc<CertifiedKey>| {
            certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let named = hello.server_name().and_then(|name| self.named(name)).unwrap_or_default();
        let mut candidates = named.iter().filter_map(|&index| self.all.get(index));
        let by_name = candidates.find(suits);
        by_name.or_else(|| self.all.iter().find(suits)).cloned()
    }
}

/// The DNS names that a certificate is for.
fn names(certified: &CertifiedKey, path: &Path) -> Result<Vec<String>, TlsError> {
    let refused = |error: &dyn std::fmt::Display| TlsError::new("read certificate", path, error);
    let leaf = certified.end_entity_cert().map_err(|error| refused(&error))?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|error| refused(&error))?;
    Ok(leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
