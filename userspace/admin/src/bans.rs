//! `/bans`: listed, added, deleted, loaded in bulk, tested.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use hyper::{Method, StatusCode};
use weir_config::ban_list::{self, BanList};
use weir_l4::{Decision, Kernel};
use weir_model::{Ban, BanOrigin, Cidr};

use crate::Running;
use crate::api::{self, Change, Changed, Page};
use crate::endpoint::{Answer, Endpoint, Port, Request, at_once};

/// Lines of a list that are no prefix and are told of.
const SKIPPED_TOLD_MAX: usize = 10;
/// The list that `POST /bans` loads where the query names none.
const LIST_DEFAULT: &str = "default";

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/bans",
    port: Port::Admin,
    summary: "every ban with origin, reason and how long it still lasts",
    answer: |running, _| at_once(with_kernel(&running, |kernel| Ok(list(kernel)))),
};

pub(crate) const POST: Endpoint = Endpoint {
    method: Method::POST,
    path: "/bans",
    port: Port::Admin,
    summary: "ban the prefixes of a JSON object, or as text/plain load a list (`?list=NAME&replace=1`)",
    answer: |running, request| {
        at_once(with_kernel(&running, |kernel| {
            if request.content_type.starts_with("text/plain") {
                load(kernel, &request)
            } else {
                add(kernel, &request)
            }
        }))
    },
};

pub(crate) const DELETE: Endpoint = Endpoint {
    method: Method::DELETE,
    path: "/bans",
    port: Port::Admin,
    summary: "end the bans of exactly these prefixes",
    answer: |running, request| {
        at_once(with_kernel(&running, |kernel| {
            let began = Instant::now();
            let (_, cidrs) = change(&request)?;
            let changed = kernel.unban(&cidrs).map_err(refused)?;
            Ok(Answer::json(&told(kernel, &changed, began)))
        }))
    },
};

pub(crate) const TEST: Endpoint = Endpoint {
    method: Method::GET,
    path: "/bans/test/",
    port: Port::Admin,
    summary: "what the kernel does with packets of an address, and why",
    answer: |running, request| at_once(with_kernel(&running, |kernel| test(kernel, &request.rest))),
};

/// Answers with what `act` says, or that there is no kernel side to act on.
pub(crate) fn with_kernel(
    running: &Rc<Running>,
    act: impl FnOnce(&Kernel) -> Result<Answer, Answer>,
) -> Answer {
    let Some(kernel) = &running.kernel else {
        let message = "the kernel side is off, so nothing can be banned: \
                       give `kernel.interfaces` in the configuration and restart";
        return Answer::problem(StatusCode::CONFLICT, message);
    };
    act(kernel).unwrap_or_else(|problem| problem)
}

/// The body of a change, with its prefixes read.
pub(crate) fn change(request: &Request) -> Result<(Change, Vec<Cidr>), Answer> {
    let change: Change = serde_json::from_slice(&request.body).map_err(|error| {
        Answer::problem(StatusCode::BAD_REQUEST, format!("the body is not as expected: {error}"))
    })?;
    let parsed = change.cidrs.iter().map(|text| {
        let parsed: Result<Cidr, _> = text.trim().parse();
        parsed.map_err(|error| format!("{text}: {error}"))
    });
    let (cidrs, wrong): (Vec<_>, Vec<_>) = parsed.partition(Result::is_ok);
    let wrong: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
    if let Some(first) = wrong.first() {
        let message = format!("{first}; nothing was changed");
        return Err(Answer::problem_with(StatusCode::BAD_REQUEST, message, wrong));
    }
    if cidrs.is_empty() {
        return Err(Answer::problem(StatusCode::BAD_REQUEST, "no prefix is given"));
    }
    Ok((change, cidrs.into_iter().flatten().collect()))
}

fn add(kernel: &Kernel, request: &Request) -> Result<Answer, Answer> {
    let began = Instant::now();
    let (change, cidrs) = change(request)?;
    let lasts = change.ttl.as_deref().map(weir_config::duration).transpose();
    let lasts = lasts.map_err(|error| {
        Answer::problem(StatusCode::BAD_REQUEST, format!("ttl: {error}; nothing was changed"))
    })?;
    let expires = lasts.map(|lasts| SystemTime::now() + lasts);
    let ban =
        |cidr| Ban { cidr, origin: BanOrigin::Operator, reason: change.reason.clone(), expires };
    let changed = kernel.ban(cidrs.into_iter().map(ban).collect()).map_err(refused)?;
    Ok(Answer::json(&told(kernel, &changed, began)))
}

fn load(kernel: &Kernel, request: &Request) -> Result<Answer, Answer> {
    let began = Instant::now();
    let name = request.parameter("list").unwrap_or(LIST_DEFAULT);
    let BanList { cidrs, skipped, skipped_count } = ban_list::parse(&request.body);
    if cidrs.is_empty() && skipped_count > 0 {
        let first = skipped.first().map(ToString::to_string).unwrap_or_default();
        let message = format!("no line of the list is a prefix ({first}); nothing was changed");
        return Err(Answer::problem(StatusCode::BAD_REQUEST, message));
    }
    let ban = |cidr| Ban {
        cidr,
        origin: BanOrigin::List(name.to_owned()),
        reason: String::new(),
        expires: None,
    };
    let bans = cidrs.into_iter().map(ban).collect();
    let changed = kernel.load_list(name, bans, request.flag("replace")).map_err(refused)?;
    Ok(Answer::json(&Changed {
        skipped: skipped_count,
        skipped_lines: skipped.iter().take(SKIPPED_TOLD_MAX).map(ToString::to_string).collect(),
        ..told(kernel, &changed, began)
    }))
}

fn list(kernel: &Kernel) -> Answer {
    let now = SystemTime::now();
    Answer::json(&Page {
        data: kernel.bans().iter().map(|ban| shown(ban, now)).collect::<Vec<_>>(),
    })
}

fn test(kernel: &Kernel, ip: &str) -> Result<Answer, Answer> {
    let ip: IpAddr = ip.parse().map_err(|_| {
        let message = format!("{ip}: not an IPv4 or IPv6 address");
        Answer::problem(StatusCode::BAD_REQUEST, message)
    })?;
    let now = SystemTime::now();
    let (verdict, reason, ban, allowed_by) = match kernel.test(ip) {
        Decision::Clean => ("pass", "clean", None, None),
        Decision::Banned(ban) => ("drop", "banned", Some(ban), None),
        Decision::Allowed { by, banned_by } => ("pass", "allowed", banned_by, Some(by)),
    };
    Ok(Answer::json(&api::Test {
        ip,
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
        ban: ban.as_ref().map(|ban| shown(ban, now)),
        allowed_by: allowed_by.map(|cidr| cidr.to_string()),
    }))
}

fn shown(ban: &Ban, now: SystemTime) -> api::Ban {
    let ends_in = ban.expires.map(|expires| expires.duration_since(now).unwrap_or(Duration::ZERO));
    api::Ban {
        cidr: ban.cidr.to_string(),
        origin: ban.origin.to_string(),
        reason: ban.reason.clone(),
        ends_in_seconds: ends_in.map(|left| left.as_secs()),
    }
}

fn told(kernel: &Kernel, changed: &weir_l4::Changed, began: Instant) -> Changed {
    Changed {
        added: changed.added,
        removed: changed.removed,
        total: kernel.ban_count(),
        skipped: 0,
        skipped_lines: Vec::new(),
        milliseconds: milliseconds(began),
    }
}

/// Since `began`, to a hundredth.
pub(crate) fn milliseconds(began: Instant) -> f64 {
    (began.elapsed().as_secs_f64() * 1e5).round() / 1e2
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(crate) fn refused(error: weir_l4::Error) -> Answer {
    Answer::problem(StatusCode::CONFLICT, format!("{error}; nothing was changed"))
}
