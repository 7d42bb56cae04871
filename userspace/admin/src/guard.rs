//! `GET /guard`, `POST /guard/set/{name}?to=`, `POST /guard/learn?seconds=`: the flood guard.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use weir_l4::{GuardSetting, GuardStats, GuardedStats, Kernel, suggest};

use crate::Running;
use crate::api::{self, Done};
use crate::endpoint::{Answer, Endpoint, Port, Request, at_once};

/// How long what was learnt is kept for who asked.
const LATE: Duration = Duration::from_secs(30);

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/guard",
    port: Port::Admin,
    summary: "how each VIP and listener is guarded, with its rate of SYNs",
    answer: |running, _| at_once(with_kernel(&running, |kernel| Answer::json(&shown(kernel)))),
};

pub(crate) const SET: Endpoint = Endpoint {
    method: Method::POST,
    path: "/guard/set/{name}",
    port: Port::Admin,
    summary: "guard one by its rate with `?to=auto`, as if it were attacked with `?to=attack`, not at all \
              with `?to=off`; until the next start",
    answer: |running, request| at_once(set(&running, &request)),
};

pub(crate) const LEARN: Endpoint = Endpoint {
    method: Method::POST,
    path: "/guard/learn",
    port: Port::Admin,
    summary: "note the most that is seen of traffic for `?seconds=`, end that without; answers what was seen \
              so far, and limits that nothing of it would have come near",
    answer: |running, request| {
        let seconds = request.parameter("seconds").and_then(|text| text.parse().ok());
        at_once(with_kernel(&running, |kernel| learn(kernel, seconds)))
    },
};

/// The guard of the kernel side.
pub(crate) fn shown(kernel: &Kernel) -> api::Guard {
    let GuardStats { guarded, tried, dry_run, is_raised } = kernel.guard_stats(Instant::now());
    api::Guard {
        guarded: guarded.into_iter().map(one).collect(),
        tried: tried
            .into_iter()
            .map(|(reason, count)| api::Refused { reason: reason.to_owned(), count })
            .collect(),
        dry_run,
        cookies: is_raised,
    }
}

fn one(stats: GuardedStats) -> api::Guarded {
    api::Guarded {
        name: stats.name,
        kind: if stats.is_vip { "vip" } else { "listener" }.to_owned(),
        address: stats.address,
        answers: if stats.is_local { "cookies" } else { "challenges" }.to_owned(),
        state: stats.mode.to_owned(),
        setting: stats.setting.to_owned(),
        since_seconds: stats.since.as_secs(),
        syn_rate: stats.syn_rate.round() as u64,
        syns: stats.syns,
        answered: stats.answered,
        proven: stats.proven,
        dropped: stats.dropped,
    }
}

fn with_kernel(running: &Rc<Running>, answer: impl FnOnce(&Kernel) -> Answer) -> Answer {
    match running.kernel.kernel().as_deref() {
        Some(kernel) => answer(kernel),
        None => bad("the kernel side is off: nothing is guarded"),
    }
}

fn bad(message: impl Into<String>) -> Answer {
    Answer::problem(StatusCode::BAD_REQUEST, message)
}

fn set(running: &Rc<Running>, request: &Request) -> Answer {
    let to = request.parameter("to").unwrap_or("");
    let setting = GuardSetting::NAMES.iter().find(|(name, _)| *name == to);
    let Some((word, setting)) = setting else {
        return bad(format!("`to`: `{to}` is none of auto, attack, off"));
    };
    let name = &request.rest;
    with_kernel(running, |kernel| {
        if kernel.set_guard(name, *setting) {
            let message = format!("guard of {name} is {word}, until the next start");
            return Answer::json(&Done { generation: running.generation.get(), message });
        }
        let known: Vec<_> = shown(kernel).guarded.into_iter().map(|it| it.name).collect();
        bad(format!("nothing called `{name}` is guarded; known: {}", known.join(", ")))
    })
}

fn learn(kernel: &Kernel, seconds: Option<u32>) -> Answer {
    // Who asked comes back for it, a little late perhaps.
    let until = seconds.map(|it| Instant::now() + Duration::from_secs(it.into()) + LATE);
    let seen = kernel.learn_guard(until).unwrap_or_default();
    let limits = suggest(&seen);
    Answer::json(&api::Learned {
        syn_rate: api::Rate { seen: seen.syns.round() as u64, limit: limits.syn_rate.into() },
        source_syn_rate: api::Rate {
            seen: seen.source_syns.into(),
            limit: limits.source_syn_rate.into(),
        },
        source_packet_rate: api::Rate {
            seen: seen.source_packets.into(),
            limit: limits.source_packet_rate.into(),
        },
    })
}
