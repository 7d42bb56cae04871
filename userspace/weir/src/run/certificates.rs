//! Certificates and keys: read again when their files change.

use std::path::PathBuf;

use anyhow::Result;
use weir_l7::Snapshot;
use weir_model::{CertificateFiles, Config};

use super::Main;

/// Every file of certificates, keys and authorities that a configuration names.
pub(crate) fn paths(config: &Config) -> Vec<PathBuf> {
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

/// Puts files that have changed in force; those that cannot be used leave the ones in force.
pub(crate) async fn follow(main: &mut Main) {
    let changed = main.certificates.changed();
    if changed.is_empty() {
        return;
    }
    let names: Vec<_> = changed.iter().map(|path| path.display().to_string()).collect();
    match renew(main).await {
        Ok(()) => tracing::info!("certificates in force: {} changed", names.join(", ")),
        Err(error) => tracing::error!("certificates stay as they were: {error:#}"),
    }
}

async fn renew(main: &Main) -> Result<()> {
    let running = &main.running;
    let upstreams = running.upstreams.borrow().clone();
    let snapshot = Snapshot::new(&main.config, &upstreams, running.engine.tickets())?;
    let plan = running.engine.plan(snapshot, &main.config.listeners)?;
    running.engine.apply(plan).await;
    Ok(())
}
