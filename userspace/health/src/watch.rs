//! The tasks that probe backends and tell what changed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use weir_balance::{Backend, Upstream};
use weir_model::ActiveCheck;

use crate::check::probe;
use crate::{Machine, ProbeError};

/// Probes going on; dropping it ends them.
#[derive(Debug, Default)]
pub struct Watch(Vec<AbortHandle>);

/// Another way of probes than to the backend's own address.
pub struct Detour {
    /// What their sockets are marked with (`SO_MARK`).
    pub mark: u32,
    /// How many packets have taken it so far: a probe that did not proves nothing.
    pub taken: Box<dyn Fn() -> u64>,
}

/// Probes every backend of every upstream that asks for it, from tasks of the current thread's
/// local runtime; `detour` tells which take another way. Health lives in the backends, so a new watch
/// goes on from where one ended.
#[must_use]
pub fn watch(
    upstreams: &[Arc<Upstream>],
    detour: impl Fn(&Upstream, &Backend) -> Option<Detour>,
) -> Watch {
    let mut tasks = Vec::new();
    for upstream in upstreams {
        let Some(check) = &upstream.policy().health else { continue };
        let count = u32::try_from(upstream.backends().len()).unwrap_or(u32::MAX).max(1);
        for (index, backend) in (0u32..).zip(upstream.backends()) {
            // Spread over the interval, so that probes don't come in bursts; the first ones soon.
            let offset = check.interval.min(Duration::from_secs(1)) / count * index;
            let probes = Probes { check: check.clone(), detour: detour(upstream, backend), offset };
            let task = follow(upstream.name().to_owned(), Arc::clone(backend), probes);
            tasks.push(spawn_local(task).abort_handle());
        }
    }
    Watch(tasks)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// How a backend is probed.
struct Probes {
    check: ActiveCheck,
    detour: Option<Detour>,
    /// Until the first one.
    offset: Duration,
}

impl Probes {
    async fn probe(&self, address: SocketAddr) -> Result<(), ProbeError> {
        let mark = self.detour.as_ref().map(|detour| detour.mark);
        let taken = || self.detour.as_ref().map(|detour| (detour.taken)());
        let before = taken();
        let result = timeout(self.check.timeout, probe(&self.check.kind, address, mark)).await;
        match result.unwrap_or(Err(ProbeError::TimedOut)) {
            Ok(()) if before.is_some() && taken() == before => Err(ProbeError::Elsewhere),
            result => result,
        }
    }
}

async fn follow(upstream: String, backend: Arc<Backend>, probes: Probes) {
    let mut machine = Machine::new(&probes.check, backend.health());
    let mut ticks = interval_at(Instant::now() + probes.offset, probes.check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = probes.probe(backend.address()).await;
        let Some(health) = machine.on_result(result.is_ok()) else { continue };
        backend.set_health(health);
        let address = backend.address();
        match result {
            Ok(()) => tracing::info!("backend {address} of {upstream} is up"),
            Err(error) => tracing::warn!("backend {address} of {upstream} is down: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use weir_model::{CheckKind, Statuses};

    use super::*;

    fn http(path: &str, statuses: Statuses) -> CheckKind {
        CheckKind::Http { path: path.to_owned(), host: None, statuses }
    }

    /// What a probe says of a server that answers so.
    async fn probed(kind: CheckKind, answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let result = probe(&kind, address, None).await.map_err(|error| error.to_string());
        serve.abort();
        result
    }

    #[tokio::test]
    async fn probes_tell_good_from_bad() {
        let http = || http("/health", Statuses::default());
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(probed(http(), ok).await, Ok(()));
        assert_eq!(probed(http(), "HTTP/1.1 304 Not Modified\r\n\r\n").await, Ok(()));
        let failing = probed(http(), "HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(failing, Err("status 503".to_owned()));
        let only_304 = CheckKind::Http {
            path: "/".to_owned(),
            host: Some("orders.internal".to_owned()),
            statuses: Statuses(vec![304..=304]),
        };
        assert_eq!(probed(only_304.clone(), ok).await, Err("status 200".to_owned()));
        assert_eq!(probed(only_304, "HTTP/1.1 304 Not Modified\r\n\r\n").await, Ok(()));
        assert!(probed(http(), "not HTTP at all\r\n\r\n").await.is_err());
        assert!(probed(http(), "").await.is_err());
        assert_eq!(probed(CheckKind::Tcp, "").await, Ok(()));
    }

    #[tokio::test]
    async fn a_port_without_a_server_is_bad() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let grpc = CheckKind::Grpc { service: String::new() };
        for kind in [CheckKind::Tcp, http("/", Statuses::default()), grpc] {
            assert!(probe(&kind, address, None).await.is_err());
        }
    }
}
