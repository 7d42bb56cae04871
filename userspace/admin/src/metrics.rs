//! `GET /metrics` of the status port: Prometheus text.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::rc::Rc;

use hyper::Method;
use weir_l4::{BackendStats, VipStats};
use weir_l7::{Counter, Counters, DURATION_BOUNDS_US, Refusal};

use crate::endpoint::{Answer, Endpoint, Port, at_once};
use crate::{Running, api, guard};

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/metrics",
    port: Port::Status,
    summary: "all counters in Prometheus text",
    answer: |running, _| {
        at_once(Answer {
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            ..Answer::text(metrics(&running))
        })
    },
};

fn metrics(running: &Rc<Running>) -> String {
    let mut page = Page(String::with_capacity(16 * 1024));
    process(running, &mut page);
    kernel(running, &mut page);
    vips(running, &mut page);
    guard(running, &mut page);
    listeners(running, &mut page);
    backends(running, &mut page);
    requests(running, &mut page);
    durations(running, &mut page);
    page.0
}

fn process(running: &Running, page: &mut Page) {
    page.family("weir_info", "gauge", "The running version.");
    page.sample("weir_info", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
    page.family("weir_generation", "gauge", "How many configurations were applied.");
    page.sample("weir_generation", &[], running.generation.get());
    page.family("weir_uptime_seconds", "gauge", "Seconds since the process started.");
    page.sample("weir_uptime_seconds", &[], running.started.elapsed().as_secs());
}

fn kernel(running: &Running, page: &mut Page) {
    let Some(kernel) = running.kernel.kernel() else { return };
    page.family("weir_bans", "gauge", "Prefixes banned in the kernel.");
    page.sample("weir_bans", &[], kernel.ban_count());
    let counters = kernel.counters().unwrap_or_default();
    page.family("weir_packets_total", "counter", "Packets by verdict and reason.");
    for counter in &counters {
        let labels: [(&str, &dyn Display); 2] =
            [("verdict", &counter.verdict), ("reason", &counter.reason)];
        page.sample("weir_packets_total", &labels, counter.packets);
    }
    page.family("weir_packet_bytes_total", "counter", "Bytes of packets by verdict and reason.");
    for counter in &counters {
        let labels: [(&str, &dyn Display); 2] =
            [("verdict", &counter.verdict), ("reason", &counter.reason)];
        page.sample("weir_packet_bytes_total", &labels, counter.bytes);
    }
}

/// A metric of a VIP or of a backend of one: name, type, help, value.
type VipMetric<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

fn vips(running: &Running, page: &mut Page) {
    const VIP: [VipMetric<VipStats>; 5] = [
        ("weir_vip_packets_total", "counter", "Packets for a VIP.", |vip| vip.packets),
        ("weir_vip_bytes_total", "counter", "Their bytes.", |vip| vip.bytes),
        ("weir_vip_flows_total", "counter", "TCP connections to a VIP that began.", |vip| {
            vip.flows
        }),
        ("weir_vip_moving_packets_total", "counter", "Packets in slots that moved.", |vip| {
            vip.moving_packets
        }),
        ("weir_vip_moving_slots", "gauge", "Slots that are moving.", |vip| vip.moving_slots as u64),
    ];
    const BACKEND: [VipMetric<BackendStats>; 4] = [
        ("weir_vip_backend_packets_total", "counter", "Packets sent to a VIP's backend.", |it| {
            it.packets
        }),
        ("weir_vip_backend_bytes_total", "counter", "Their bytes.", |it| it.bytes),
        ("weir_vip_backend_flows_total", "counter", "TCP connections that began.", |it| it.flows),
        (
            "weir_vip_backend_moving_packets_total",
            "counter",
            "Packets in slots that moved.",
            |it| it.moving_packets,
        ),
    ];
    let vips = running.kernel.kernel().map(|kernel| kernel.vips()).unwrap_or_default();
    if vips.is_empty() {
        return;
    }
    for (name, kind, help, value) in VIP {
        page.family(name, kind, help);
        vips.iter().for_each(|it| page.sample(name, &[("vip", &it.vip.name)], value(it)));
    }
    const DROPS: &str = "weir_vip_dropped_packets_total";
    page.family(DROPS, "counter", "Packets for a VIP that were dropped, by reason.");
    for it in &vips {
        for (reason, count) in &it.drops {
            page.sample(DROPS, &[("vip", &it.vip.name), ("reason", reason)], count);
        }
    }
    // What serves several VIPs is counted once.
    let backends: BTreeMap<_, _> =
        vips.iter().flat_map(|it| &it.backends).map(|it| (it.address, it)).collect();
    for (name, kind, help, value) in BACKEND {
        page.family(name, kind, help);
        for (address, backend) in &backends {
            page.sample(name, &[("backend", address)], value(backend));
        }
    }
}

/// A metric of what is guarded: name, type, help, value.
type GuardMetric = (&'static str, &'static str, &'static str, fn(&api::Guarded) -> u64);

fn guard(running: &Running, page: &mut Page) {
    const METRICS: [GuardMetric; 5] = [
        ("weir_guard_syn_rate", "gauge", "SYNs a second.", |it| it.syn_rate),
        ("weir_guard_syns_total", "counter", "SYNs of a VIP or listener.", |it| it.syns),
        (
            "weir_guard_answered_total",
            "counter",
            "SYNs answered with a cookie or a challenge.",
            |it| it.answered,
        ),
        ("weir_guard_returned_total", "counter", "Cookies and challenges that came back.", |it| {
            it.proven
        }),
        ("weir_guard_dropped_total", "counter", "Packets that the guard dropped.", |it| it.dropped),
    ];
    let Some(guard) = running.kernel.kernel().as_deref().map(guard::shown) else { return };
    const STATE: &str = "weir_guard_state";
    page.family(STATE, "gauge", "1 for the state that a VIP or listener is in.");
    for it in &guard.guarded {
        for state in ["off", "calm", "watch", "attack"] {
            let labels: [(&str, &dyn Display); 3] =
                [("guard", &it.name), ("kind", &it.kind), ("state", &state)];
            page.sample(STATE, &labels, u8::from(it.state == state));
        }
    }
    for (name, kind, help, value) in METRICS {
        page.family(name, kind, help);
        for it in &guard.guarded {
            page.sample(name, &[("guard", &it.name), ("kind", &it.kind)], value(it));
        }
    }
    const TRIED: &str = "weir_guard_tried_total";
    page.family(TRIED, "counter", "Packets that a dry-run let pass, by what it would have done.");
    guard.tried.iter().for_each(|it| page.sample(TRIED, &[("reason", &it.reason)], it.count));
}

fn spread(open: &[u32]) -> f64 {
    let total: f64 = open.iter().copied().map(f64::from).sum();
    let most = open.iter().copied().max().map_or(0.0, f64::from);
    if total > 0.0 { most * open.len() as f64 / total } else { 1.0 }
}

fn listeners(running: &Running, page: &mut Page) {
    page.family("weir_listener_connections", "gauge", "Open client connections.");
    for listener in running.engine.listeners() {
        let labels: [(&str, &dyn Display); 1] = [("listener", &listener.name)];
        page.sample("weir_listener_connections", &labels, listener.connections);
    }
    let open = running.engine.open();
    page.family("weir_reactor_connections", "gauge", "Open client connections, by reactor.");
    for (reactor, open) in open.iter().enumerate() {
        page.sample("weir_reactor_connections", &[("reactor", &reactor)], open);
    }
    let help = "The most connections of a reactor over the mean of all; 1 is even, and none.";
    page.family("weir_reactor_spread_ratio", "gauge", help);
    page.sample("weir_reactor_spread_ratio", &[], spread(&open));
    page.family("weir_connections_total", "counter", "Client connections accepted, by reactor.");
    for (reactor, counters) in running.engine.counters().enumerate() {
        page.sample(
            "weir_connections_total",
            &[("reactor", &reactor)],
            counters.connections.value(),
        );
    }
}

/// A metric of a backend: name, type, help, value.
type BackendMetric = (&'static str, &'static str, &'static str, fn(&weir_balance::Backend) -> u64);

fn backends(running: &Running, page: &mut Page) {
    const METRICS: [BackendMetric; 5] = [
        ("weir_backend_requests_total", "counter", "Requests sent to a backend.", |backend| {
            backend.requests()
        }),
        (
            "weir_backend_failures_total",
            "counter",
            "Requests a backend did not answer.",
            |backend| backend.failures(),
        ),
        ("weir_backend_open_requests", "gauge", "Requests not answered yet.", |backend| {
            u64::from(backend.open())
        }),
        (
            "weir_backend_ejections_total",
            "counter",
            "How often a backend was ejected.",
            |backend| backend.ejections(),
        ),
        ("weir_backend_up", "gauge", "0 if the last probes were bad, else 1.", |backend| {
            u64::from(backend.health() != weir_balance::Health::Down)
        }),
    ];
    let upstreams = running.upstreams.borrow();
    for (name, kind, help, value) in METRICS {
        page.family(name, kind, help);
        for upstream in upstreams.iter() {
            for backend in upstream.backends() {
                let labels: [(&str, &dyn Display); 2] =
                    [("upstream", &upstream.name()), ("backend", &backend.address())];
                page.sample(name, &labels, value(backend));
            }
        }
    }
}

/// A count of all reactors together: name, help, value.
type Count = (&'static str, &'static str, fn(&Counters) -> &Counter);

const COUNTS: [Count; 9] = [
    ("weir_requests_total", "Requests whose head was read or refused.", |it| &it.requests),
    ("weir_retries_total", "Requests sent to a second backend.", |it| &it.retries),
    (
        "weir_retries_over_budget_total",
        "Requests that the budget kept from a second backend.",
        |it| &it.retries_over_budget,
    ),
    ("weir_hedges_total", "Requests sent to a second backend while the first was slow.", |it| {
        &it.hedges
    }),
    ("weir_own_answers_total", "Redirects and fixed answers of routes.", |it| &it.own),
    ("weir_mirrored_total", "Copies of requests that were sent.", |it| &it.mirrored),
    ("weir_not_mirrored_total", "Requests that should have been copied.", |it| &it.not_mirrored),
    ("weir_relayed_total", "Connections passed on as they came.", |it| &it.relayed),
    ("weir_cut_total", "Exchanges cut after the answer had begun.", |it| &it.cut),
];

fn requests(running: &Running, page: &mut Page) {
    let sum = |of: &dyn Fn(&Counters) -> u64| running.engine.counters().map(of).sum::<u64>();
    let at = |counters: &[Counter], index: usize| counters.get(index).map_or(0, Counter::value);
    for (name, help, count) in COUNTS {
        page.family(name, "counter", help);
        page.sample(name, &[], sum(&|counters| count(counters).value()));
    }
    page.family("weir_responses_total", "counter", "Answers of backends by class of status.");
    for (index, class) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().enumerate() {
        let count = sum(&|counters| at(&counters.responses, index));
        page.sample("weir_responses_total", &[("class", class)], count);
    }
    page.family("weir_refusals_total", "counter", "Requests that Weir answered itself, by reason.");
    for refusal in Refusal::ALL {
        let count = sum(&|counters| at(&counters.refusals, refusal.index()));
        page.sample("weir_refusals_total", &[("reason", &refusal.name())], count);
    }
}

fn durations(running: &Running, page: &mut Page) {
    const NAME: &str = "weir_request_duration_seconds";
    const BUCKET: &str = "weir_request_duration_seconds_bucket";
    page.family(NAME, "histogram", "From the head of a request to the end of its answer.");
    let mut total = 0u64;
    let bounds = DURATION_BOUNDS_US.iter().map(|&bound| (seconds(bound)).to_string());
    for (index, bound) in bounds.chain(["+Inf".to_owned()]).enumerate() {
        total += running
            .engine
            .counters()
            .filter_map(|counters| counters.durations.get(index))
            .map(Counter::value)
            .sum::<u64>();
        page.sample(BUCKET, &[("le", &bound)], total);
    }
    let sum: u64 = running.engine.counters().map(|counters| counters.duration_sum_us.value()).sum();
    page.sample("weir_request_duration_seconds_sum", &[], seconds(sum));
    page.sample("weir_request_duration_seconds_count", &[], total);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric's sum need not be exact to the microsecond"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// A page of Prometheus text.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            // Names come from a configuration that allows neither quotes nor backslashes.
            let _ = write!(self.0, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}
