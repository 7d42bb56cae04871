//! `GET /vips`, `POST /vips/{name}/move?to=`, `GET /flows/explain`: layer 4.

use std::net::SocketAddr;
use std::rc::Rc;

use hyper::{Method, StatusCode};
use tokio::sync::oneshot;
use weir_l4::{BackendStats, Decision, FlowQuestion, Kernel, VipStats};
use weir_model::Protocol;

use crate::api::{self, Page};
use crate::endpoint::{Answer, Endpoint, Port, Request, at_once};
use crate::{Order, Running, guard};

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/vips",
    port: Port::Admin,
    summary: "every VIP with its counters and backends",
    answer: |running, _| {
        at_once(Answer::json(&Page { data: shown(running.kernel.kernel().as_deref()), next: None }))
    },
};

pub(crate) const MOVE: Endpoint = Endpoint {
    method: Method::POST,
    path: "/vips/{name}/move",
    port: Port::Admin,
    summary: "with `?to=local` listeners of this host serve new flows of a VIP, with `?to=forward` its \
              backends; flows that exist stay where they are",
    answer: |running, request| Box::pin(move_vip(running, request)),
};

pub(crate) const EXPLAIN: Endpoint = Endpoint {
    method: Method::GET,
    path: "/flows/explain",
    port: Port::Admin,
    summary: "which stage decides what for a flow, asked of the maps in force: `?source=ADDRESS:PORT&\
              destination=ADDRESS:PORT&protocol=tcp`",
    answer: |running, request| at_once(explain(&running, &request)),
};

/// The VIPs in force.
pub(crate) fn shown(kernel: Option<&Kernel>) -> Vec<api::Vip> {
    kernel.map(Kernel::vips).unwrap_or_default().into_iter().map(vip).collect()
}

fn vip(stats: VipStats) -> api::Vip {
    let VipStats { vip, is_local, packets, bytes, flows, moving_packets, moving_slots, .. } = stats;
    api::Vip {
        name: vip.name.clone(),
        address: vip.to_string(),
        forward: if is_local { "local" } else { vip.forward.name() }.to_owned(),
        hash: vip.hash.name().to_owned(),
        packets,
        bytes,
        flows,
        moving_packets,
        moving_slots,
        drops: stats
            .drops
            .into_iter()
            .map(|(reason, count)| api::Refused { reason: reason.to_owned(), count })
            .collect(),
        backends: stats.backends.into_iter().map(backend).collect(),
    }
}

fn backend(stats: BackendStats) -> api::VipBackend {
    let BackendStats { address, is_up, slots, packets, bytes, flows, moving_packets } = stats;
    api::VipBackend {
        address,
        health: if is_up { "up" } else { "down" }.to_owned(),
        slots,
        packets,
        bytes,
        flows,
        moving_packets,
    }
}

async fn move_vip(running: Rc<Running>, request: Request) -> Answer {
    let bad = |message: String| Answer::problem(StatusCode::BAD_REQUEST, message);
    let Some(name) = request.rest.strip_suffix("/move").map(ToOwned::to_owned) else {
        return Answer::problem(StatusCode::NOT_FOUND, "write /vips/NAME/move?to=local");
    };
    let is_local = match request.parameter("to") {
        Some("local") => true,
        Some("forward") => false,
        _ => return bad("`to` must be local or forward".to_owned()),
    };
    let (done, moved) = oneshot::channel();
    if running.orders.send(Order::MoveVip { name, is_local, done }).await.is_err() {
        return Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "weir is stopping");
    }
    match moved.await {
        Ok(Ok(done)) => Answer::json(&done),
        Ok(Err(why)) => bad(why),
        Err(_) => Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "weir is stopping"),
    }
}

fn explain(running: &Running, request: &Request) -> Answer {
    let bad = |message: String| Answer::problem(StatusCode::BAD_REQUEST, message);
    let Some(kernel) = running.kernel.kernel() else {
        return bad("the kernel side is off: nothing is decided there".to_owned());
    };
    let address = |key: &str| -> Result<SocketAddr, String> {
        let text = request.parameter(key).ok_or_else(|| format!("`{key}` is missing"))?;
        text.parse().map_err(|_| {
            format!("`{key}`: `{text}` is no address with a port like 192.0.2.1:40000 or [2001:db8::1]:80")
        })
    };
    let word = request.parameter("protocol").unwrap_or("tcp");
    let protocol = Protocol::NAMES.iter().find(|(name, _)| *name == word);
    let (source, destination) = match (address("source"), address("destination")) {
        (Ok(source), Ok(destination)) => (source, destination),
        (Err(why), _) | (_, Err(why)) => return bad(why),
    };
    let Some((_, protocol)) = protocol else {
        return bad(format!("`protocol`: `{word}` is neither tcp nor udp"));
    };
    if source.is_ipv4() != destination.is_ipv4() {
        return bad("source and destination must be of one family".to_owned());
    }
    let decision = kernel.test(source.ip()).0;
    let (is_dropped, ban) = ban_stage(&decision, kernel.is_dry_run());
    let asked = FlowQuestion { source, destination, protocol: *protocol };
    let mut stages = vec![api::Stage { stage: "ban".to_owned(), decision: ban }];
    let explained = kernel.explain(asked);
    if !is_dropped {
        stages.extend(guard_stage(&kernel, asked));
        stages.extend(
            explained
                .stages
                .into_iter()
                .map(|(stage, decision)| api::Stage { stage: stage.to_owned(), decision }),
        );
    }
    let backend = explained.backend.filter(|_| !is_dropped);
    Answer::json(&api::Explained { stages, backend })
}

/// What the guard does with SYNs for this destination, if it guards it.
fn guard_stage(kernel: &Kernel, asked: FlowQuestion) -> Option<api::Stage> {
    if asked.protocol != Protocol::Tcp {
        return None;
    }
    let is_of = |it: &api::Guarded| {
        let mut addresses = it.address.split(", ").map(|own| own.trim_end_matches("/tcp"));
        addresses.any(|own| own.parse() == Ok(asked.destination))
    };
    let found = guard::shown(kernel).guarded.into_iter().find(is_of)?;
    let decision = match (found.state.as_str(), found.answers.as_str()) {
        ("off", _) => "not guarded".to_owned(),
        ("attack", "cookies") => "attack: SYNs are answered with cookies".to_owned(),
        ("attack", _) => "attack: SYNs are challenged until their source has answered".to_owned(),
        ("watch", _) => "watch: SYNs beyond the limits are dropped".to_owned(),
        (state, _) => format!("{state}: SYNs are counted"),
    };
    Some(api::Stage { stage: "guard".to_owned(), decision })
}

fn ban_stage(decision: &Decision, dry_run: bool) -> (bool, String) {
    match decision {
        Decision::Clean => (false, "no ban touches the source".to_owned()),
        Decision::Banned(ban) if !dry_run => (true, format!("dropped: banned by {}", ban.cidr)),
        Decision::Banned(ban) | Decision::WouldDrop(ban) => {
            (false, format!("banned by {}, but that is only tried", ban.cidr))
        }
        Decision::Allowed { by, .. } => (false, format!("allowed by {by}")),
        Decision::Protected { by, .. } => (false, format!("protected by {by}")),
    }
}
