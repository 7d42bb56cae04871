//! Certificates and keys: read again when their files change.

use std::path::PathBuf;

use anyhow::Result;
use weir_model::{CertificateFiles, Config};

use super::Main;
use super::files::Watched;

/// The files of certificates, keys and authorities of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    files: Watched,
    /// Why some of them cannot be used, as far as it was told. What they held before stays in force.
    unusable: Vec<String>,
}

impl Certificates {
    /// The files as they are now.
    pub(crate) fn now(config: &Config) -> Self {
        Self { files: Watched::now(paths(config)), unusable: Vec::new() }
    }
}

/// Every file that a configuration names.
fn paths(config: &Config) -> Vec<PathBuf> {
    let pair = |files: &CertificateFiles| [files.cert.clone(), files.key.clone()];
    let servers = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let servers =
        servers.flat_map(|tls| tls.certificates.iter().flat_map(pair).chain(tls.client_ca.clone()));
    let clients = config.services.iter().filter_map(|service| service.tls.as_ref());
    let clients =
        clients.flat_map(|tls| tls.certificate.iter().flat_map(pair).chain(tls.ca.clone()));
    let mut paths: Vec<_> = servers.chain(clients).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Puts files that have changed in force; those that cannot be used leave the ones in force, and are tried
/// again.
pub(crate) async fn follow(main: &mut Main) {
    let changed = main.certificates.files.changed();
    let is_due = !main.certificates.unusable.is_empty() && main.certificates.files.are_settled();
    if changed.is_empty() && !is_due {
        return;
    }
    let unusable = match renew(main, changed.is_empty()).await {
        Ok(unusable) => unusable,
        Err(error) => vec![format!("{error:#}")],
    };
    for error in unusable.iter().filter(|error| !main.certificates.unusable.contains(error)) {
        tracing::error!("certificates stay as they were: {error}");
    }
    if unusable.is_empty() {
        let names: Vec<_> = changed.iter().map(|path| path.display().to_string()).collect();
        let names =
            if names.is_empty() { "what could not be used".into() } else { names.join(", ") };
        tracing::info!("certificates in force: {names} changed");
    }
    main.certificates.unusable = unusable;
}

/// Why some files cannot be used. Where nothing has changed, not even that, nothing is done.
async fn renew(main: &Main, is_repeated: bool) -> Result<Vec<String>> {
    let engine = &main.running.engine;
    let upstreams = main.running.upstreams.borrow().clone();
    let renewed = engine.snapshot().renewed(&main.config, &upstreams, engine.tickets())?;
    let (snapshot, unusable) = renewed;
    let unusable: Vec<_> =
        unusable.into_iter().map(|error| format!("{:#}", anyhow::Error::from(error))).collect();
    if !is_repeated || unusable != main.certificates.unusable {
        let plan = engine.plan(snapshot, &main.config.listeners)?;
        engine.apply(plan).await;
    }
    Ok(unusable)
}
