//! `GET /status`: the health of everything at a glance.

use std::rc::Rc;
use std::time::Duration;

use hyper::Method;
use weir_balance::Backend;
use weir_l4::{AttachMode, Kernel};
use weir_l7::{Counters, Refusal};
use weir_model::AlgorithmName;

use crate::api::{self, Status};
use crate::endpoint::{Answer, Endpoint, Port, at_once};
use crate::{Running, guard, vips};

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/status",
    port: Port::Admin,
    summary: "the health of everything at a glance",
    answer: |running, _| at_once(Answer::json(&status(&running))),
};

fn status(running: &Rc<Running>) -> Status {
    let listeners = running.engine.listeners();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: running.started.elapsed().as_secs(),
        draining_pid: running.predecessor.get(),
        generation: running.generation.get(),
        ready: running.is_ready(),
        draining: running.draining.get(),
        reactors: running.engine.counters().count(),
        reactor_connections: running.engine.open(),
        selection: if running.selects.get() { "cpu" } else { "hash" }.to_owned(),
        kernel: running.kernel.kernel().as_deref().map(kernel),
        guard: running.kernel.kernel().as_deref().map(guard::shown),
        status_address: running.status_address.get(),
        vips: vips::shown(running.kernel.kernel().as_deref()),
        listeners: listeners
            .into_iter()
            .map(|listener| api::Listener {
                name: listener.name,
                address: listener.address,
                connections: listener.connections,
            })
            .collect(),
        upstreams: running
            .upstreams
            .borrow()
            .iter()
            .map(|it| upstream(it, running.engine.now()))
            .collect(),
        requests: requests(running),
    }
}

impl Running {
    /// Whether it takes requests.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.get() && self.generation.get() > 0
    }
}

fn kernel(kernel: &Kernel) -> api::Kernel {
    let interfaces = kernel.interfaces();
    let all_in_driver = interfaces.iter().all(|interface| interface.mode == AttachMode::Driver);
    let mode = if all_in_driver { AttachMode::Driver } else { AttachMode::Generic };
    // Counters that cannot be read are shown as none, with the cause in the log.
    let counters = kernel.counters().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Vec::new()
    });
    api::Kernel {
        mode: mode.name().to_owned(),
        interfaces: interfaces
            .into_iter()
            .map(|interface| api::Interface {
                name: interface.name,
                mode: interface.mode.name().to_owned(),
            })
            .collect(),
        bans: kernel.ban_count(),
        dry_run: kernel.is_dry_run(),
        allowed: kernel.allowed().len(),
        verdicts: counters
            .into_iter()
            .map(|counter| api::Verdict {
                verdict: counter.verdict.to_owned(),
                reason: counter.reason.to_owned(),
                packets: counter.packets,
                bytes: counter.bytes,
            })
            .collect(),
    }
}

fn upstream(upstream: &weir_balance::Upstream, now: Duration) -> api::Upstream {
    let name = AlgorithmName::NAMES.iter().find(|(_, name)| *name == upstream.policy().algorithm);
    api::Upstream {
        name: upstream.name().to_owned(),
        algorithm: name.map_or("", |(word, _)| word).to_owned(),
        backends: upstream.backends().iter().map(|it| backend(it, now)).collect(),
    }
}

fn backend(backend: &Backend, now: Duration) -> api::Backend {
    let health = if backend.is_ejected(now) { "ejected" } else { backend.health().name() };
    api::Backend {
        address: backend.address(),
        weight: backend.weight(),
        health: health.to_owned(),
        requests: backend.requests(),
        failures: backend.failures(),
        open: backend.open(),
    }
}

fn requests(running: &Running) -> api::Requests {
    let sum = |of: &dyn Fn(&Counters) -> u64| running.engine.counters().map(of).sum();
    let refused = Refusal::ALL.into_iter().map(|refusal| api::Refused {
        reason: refusal.name().to_owned(),
        count: sum(&|counters| {
            counters.refusals.get(refusal.index()).map_or(0, weir_l7::Counter::value)
        }),
    });
    api::Requests {
        total: sum(&|counters| counters.requests.value()),
        retries: sum(&|counters| counters.retries.value()),
        refused: refused.filter(|refused| refused.count > 0).collect(),
    }
}
