//! The tasks that probe backends and tell what changed.

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

/// Probes every backend of every upstream that asks for it, from tasks of the current thread's
/// local runtime. Health lives in the backends, so a new watch goes on from where one ended.
#[must_use]
pub fn watch(upstreams: &[Arc<Upstream>]) -> Watch {
    let mut tasks = Vec::new();
    for upstream in upstreams {
        let Some(check) = &upstream.policy().health else { continue };
        let count = u32::try_from(upstream.backends().len()).unwrap_or(u32::MAX).max(1);
        for (index, backend) in (0u32..).zip(upstream.backends()) {
            // Spread over the interval, so that probes don't come in bursts; the first ones soon.
            let offset = check.interval.min(Duration::from_secs(1)) / count * index;
            let task =
                follow(upstream.name().to_owned(), Arc::clone(backend), check.clone(), offset);
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

async fn follow(upstream: String, backend: Arc<Backend>, check: ActiveCheck, offset: Duration) {
    let mut machine = Machine::new(&check, backend.health());
    let mut ticks = interval_at(Instant::now() + offset, check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = timeout(check.timeout, probe(&check.kind, backend.address())).await;
        let result = result.unwrap_or(Err(ProbeError::TimedOut));
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
    use weir_model::CheckKind;

    use super::*;

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
        let result = probe(&kind, address).await.map_err(|error| error.to_string());
        serve.abort();
        result
    }

    #[tokio::test]
    async fn probes_tell_good_from_bad() {
        let http = || CheckKind::Http { path: "/health".to_owned() };
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(probed(http(), ok).await, Ok(()));
        assert_eq!(probed(http(), "HTTP/1.1 304 Not Modified\r\n\r\n").await, Ok(()));
        let failing = probed(http(), "HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(failing, Err("status 503".to_owned()));
        assert!(probed(http(), "not HTTP at all\r\n\r\n").await.is_err());
        assert!(probed(http(), "").await.is_err());
        assert_eq!(probed(CheckKind::Tcp, "").await, Ok(()));
    }

    #[tokio::test]
    async fn a_port_without_a_server_is_bad() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for kind in [CheckKind::Tcp, CheckKind::Http { path: "/".to_owned() }] {
            assert!(probe(&kind, address).await.is_err());
        }
    }
}
