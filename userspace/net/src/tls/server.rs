//! TLS towards clients.

use std::fmt;
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use weir_model::{ClientAuth, ServerTls, TlsVersion};

use super::{Alpn, TlsError, certificate, provider};

/// Tickets that a client gets with one handshake of TLS 1.3: one, as most open one connection.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// The keys of session tickets, renewed every six hours by themselves. Shared by all reactors and kept
/// over reloads, so that a client may come back to any of them; listeners that ask for certificates have
/// keys of their own.
#[derive(Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// Fresh keys.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new() -> Result<Self, std::io::Error> {
        rustls::crypto::aws_lc_rs::Ticketer::new().map(Self).map_err(super::broken)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// How a listener speaks TLS: certificates, versions, tickets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerConfig(pub(super) Arc<rustls::ServerConfig>);

impl ServerConfig {
    /// Reads every file that `tls` names.
    ///
    /// # Errors
    /// A file cannot be read, or what is in it cannot be used.
    pub fn load(tls: &ServerTls, alpn: &[Alpn], tickets: &Tickets) -> Result<Self, TlsError> {
        let provider = provider();
        let versions = match tls.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let certificates = certificate::Certificates::load(&tls.certificates, &provider)?;
        let first = tls.certificates.first().map(|files| files.cert.clone()).unwrap_or_default();
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::new("use certificate", &first, error))?;
        let builder = match &tls.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(certificate::authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match tls.client_auth {
                    ClientAuth::Required => verifier,
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                };
                let built = verifier.build();
                let verifier =
                    built.map_err(|error| TlsError::new("use authorities", path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = alpn.iter().map(|alpn| alpn.name()).collect();
        // Tickets keep a session at the client: nothing grows here, nothing is locked.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = match &tls.client_ca {
            None => Arc::clone(&tickets.0),
            // Who comes with a ticket is not asked for a certificate: only what was given out here, to
            // clients that these very authorities vouch for, may stand for one.
            Some(path) => {
                let own = Tickets::new();
                own.map_err(|error| TlsError::new("make keys of tickets for", path, error))?.0
            }
        };
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        // Clients list AES-256 first, and pay for it as we do.
        config.ignore_client_order = true;
        Ok(Self(Arc::new(config)))
    }
}
