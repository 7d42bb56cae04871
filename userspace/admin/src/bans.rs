//! `/bans`: listed, added, deleted, loaded in bulk, tested.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::{Method, StatusCode};
use weir_config::ban_list;
use weir_l4::{BanHits, Decision, Hits, Kernel, List};
use weir_model::{Ban, BanOrigin, Cidr};

use crate::Running;
use crate::api::{self, Change, Changed, Page};
use crate::endpoint::{Answer, Answering, Endpoint, Port, Request, at_once};

/// The list that `POST /bans` loads where the query names none.
const LIST_DEFAULT: &str = "default";
/// Prefixes of a page where the query names no `limit`, and the most it may name.
const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 100_000;
/// Bytes of a ban's reason.
const REASON_SIZE_MAX: usize = 256;

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/bans",
    port: Port::Admin,
    summary: "bans with origin, reason, end and hits, by prefix; `?after=CIDR&limit=N` pages on",
    answer: |running, request| at_once(with_kernel(&running, |kernel| list(kernel, &request))),
};

pub(crate) const POST: Endpoint = Endpoint {
    method: Method::POST,
    path: "/bans",
    port: Port::Admin,
    summary: "ban the prefixes of a JSON object, or as text/plain load a list \
              (`?list=NAME&replace=1&dry-run=1&force=1`)",
    answer: |running, request| {
        if request.content_type.starts_with("text/plain") {
            load(&running, request)
        } else {
            at_once(with_kernel(&running, |kernel| add(kernel, &request)))
        }
    },
};

pub(crate) const DELETE: Endpoint = Endpoint {
    method: Method::DELETE,
    path: "/bans",
    port: Port::Admin,
    summary: "end the bans of exactly these prefixes, or of a list (`?list=NAME`)",
    answer: |running, request| {
        at_once(with_kernel(&running, |kernel| {
            let began = Instant::now();
            if let Some(name) = request.parameter("list") {
                check_name(name)?;
                if !kernel.has_list(name) {
                    return Err(wrong(format!("there is no list `{name}`")));
                }
                let changed = kernel.drop_list(name).map_err(refused)?;
                return Ok(Answer::json(&told(kernel, &changed, began)));
            }
            let (_, cidrs) = change(&request)?;
            let changed = kernel.unban(&cidrs).map_err(refused)?;
            Ok(Answer::json(&told(kernel, &changed, began)))
        }))
    },
};

pub(crate) const TEST: Endpoint = Endpoint {
    method: Method::GET,
    path: "/bans/test/{ip}",
    port: Port::Admin,
    summary: "what the kernel does with packets of an address, and why",
    answer: |running, request| at_once(with_kernel(&running, |kernel| test(kernel, &request.rest))),
};

/// Answers with what `act` says, or that there is no kernel side to act on.
pub(crate) fn with_kernel(
    running: &Rc<Running>,
    act: impl FnOnce(&Arc<Kernel>) -> Result<Answer, Answer>,
) -> Answer {
    let Some(kernel) = running.kernel.kernel() else { return no_kernel() };
    act(&kernel).unwrap_or_else(|problem| problem)
}

fn no_kernel() -> Answer {
    let message = "the kernel side is off, so nothing can be banned: \
                   give `kernel.interfaces` in the configuration and restart";
    Answer::problem(StatusCode::CONFLICT, message)
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
    let lasts = lasts.map_err(|error| wrong(format!("ttl: {error}")))?;
    let created = SystemTime::now();
    let expires = match lasts {
        None => None,
        Some(lasts) => Some(created.checked_add(lasts).ok_or_else(|| wrong("ttl: too long"))?),
    };
    if change.reason.len() > REASON_SIZE_MAX || change.reason.contains(char::is_control) {
        return Err(wrong(format!(
            "reason: more than {REASON_SIZE_MAX} bytes, or control characters"
        )));
    }
    if let Some(operator) = change.operator.filter(|_| !change.force)
        && let Some(cidr) = cidrs.iter().find(|cidr| cidr.contains(operator))
    {
        return Err(locked_out(*cidr, operator));
    }
    let origin = if request.is_local { BanOrigin::Operator } else { BanOrigin::Api };
    let ban = |cidr| Ban {
        cidr,
        origin: origin.clone(),
        reason: change.reason.clone(),
        created,
        expires,
        dry_run: change.dry_run,
        forced: change.force,
    };
    let bans: Vec<Ban> = cidrs.into_iter().map(ban).collect();
    let changed = kernel.ban(&bans).map_err(refused)?;
    Ok(Answer::json(&told(kernel, &changed, began)))
}

/// Reads a list and puts it in force on a thread of its own: it may have millions of lines.
fn load(running: &Rc<Running>, request: Request) -> Answering {
    let Some(kernel) = running.kernel.kernel() else { return at_once(no_kernel()) };
    Box::pin(async move {
        let loaded = tokio::task::spawn_blocking(move || load_now(&kernel, &request)).await;
        loaded.map_or_else(
            |_| Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "loading the list failed"),
            |answer| answer.unwrap_or_else(|problem| problem),
        )
    })
}

fn load_now(kernel: &Kernel, request: &Request) -> Result<Answer, Answer> {
    let began = Instant::now();
    let name = request.parameter("list").unwrap_or(LIST_DEFAULT);
    check_name(name)?;
    let force = request.flag("force");
    let mut list = List::new(SystemTime::now(), request.flag("dry-run"));
    let now = SystemTime::now();
    let report = ban_list::parse(&request.body, now, &mut |line| {
        list.push(line.cidr, line.reason, line.expires);
    });
    let first = report.first.first().map(ToString::to_string);
    if let Some(first) = first.filter(|_| list.is_empty()) {
        return Err(wrong(format!("no line of the list could be read ({first})")));
    }
    let operator = request.parameter("operator").and_then(|ip| ip.parse().ok());
    if let Some(operator) = operator.filter(|_| !force)
        && let Some(cidr) = list.holding(operator)
    {
        return Err(locked_out(cidr, operator));
    }
    let loaded = kernel.load_list(name, list, request.flag("replace"), force).map_err(refused)?;
    Ok(Answer::json(&Changed {
        duplicates: loaded.merged.duplicates,
        covered: loaded.merged.covered,
        skipped: report.skipped,
        skipped_lines: report.first.iter().map(ToString::to_string).collect(),
        ..told(kernel, &loaded.changed, began)
    }))
}

/// Lists that are loaded have names without a slash; those of the configuration are paths, and are not
/// loaded or ended from here.
fn check_name(name: &str) -> Result<(), Answer> {
    let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_named) {
        let message = format!(
            "`{name}` is no name of a loaded list (letters, digits, `.`, `_`, `-`); \
             a list of the configuration is changed there"
        );
        return Err(wrong(message));
    }
    Ok(())
}

fn wrong(message: impl std::fmt::Display) -> Answer {
    Answer::problem(StatusCode::BAD_REQUEST, format!("{message}; nothing was changed"))
}

fn locked_out(cidr: Cidr, operator: IpAddr) -> Answer {
    let message = format!(
        "{cidr} holds {operator}, from where you are logged in (`weir allow add {operator}` \
         protects it, `--force` bans it all the same); nothing was changed"
    );
    Answer::problem(StatusCode::CONFLICT, message)
}

fn list(kernel: &Kernel, request: &Request) -> Result<Answer, Answer> {
    let parameter = |key: &str| request.parameter(key).map(|value| value.replace("%2F", "/"));
    let after = parameter("after").map(|after| after.parse::<Cidr>()).transpose();
    let after = after.map_err(|error| wrong(format!("after: {error}")))?;
    let limit = parameter("limit").map(|limit| limit.parse::<usize>()).transpose();
    let limit = limit.map_err(|error| wrong(format!("limit: {error}")))?.unwrap_or(PAGE_DEFAULT);
    let limit = limit.clamp(1, PAGE_MAX);
    let bans = kernel.bans_after(after, limit);
    let last = bans.last().map(|seen| seen.ban.cidr);
    let more = last.is_some_and(|last| !kernel.bans_after(Some(last), 1).is_empty());
    let next = last.filter(|_| more).map(|last| last.to_string());
    Ok(Answer::json(&Page { data: bans.iter().map(shown).collect::<Vec<_>>(), next }))
}

fn test(kernel: &Kernel, ip: &str) -> Result<Answer, Answer> {
    let ip: IpAddr = ip.parse().map_err(|_| {
        let message = format!("{ip}: not an IPv4 or IPv6 address");
        Answer::problem(StatusCode::BAD_REQUEST, message)
    })?;
    let dry_run = kernel.is_dry_run();
    let (decision, hits) = kernel.test(ip);
    let (verdict, reason, ban, allowed_by, protected_by) = match decision {
        Decision::Clean => ("pass", "clean", None, None, None),
        Decision::Banned(ban) if dry_run => ("pass", "would_drop", Some(ban), None, None),
        Decision::Banned(ban) => ("drop", "banned", Some(ban), None, None),
        Decision::WouldDrop(ban) => ("pass", "would_drop", Some(ban), None, None),
        Decision::Allowed { by, banned_by } => ("pass", "allowed", banned_by, Some(by), None),
        Decision::Protected { by, banned_by } => {
            ("pass", "protected", Some(banned_by), None, Some(by))
        }
    };
    Ok(Answer::json(&api::Test {
        ip,
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
        ban: ban.map(|ban| shown(&BanHits { ban, hits })),
        allowed_by: allowed_by.map(|cidr| cidr.to_string()),
        protected_by: protected_by.map(|cidr| cidr.to_string()),
        dry_run,
    }))
}

fn shown(seen: &BanHits) -> api::Ban {
    let BanHits { ban, hits: Hits { packets, bytes, last } } = seen;
    api::Ban {
        cidr: ban.cidr.to_string(),
        origin: ban.origin.to_string(),
        reason: ban.reason.clone(),
        created: unix(ban.created),
        expires: ban.expires.map(unix),
        dry_run: ban.dry_run,
        forced: ban.forced,
        packets: *packets,
        bytes: *bytes,
        last_hit: (*last > 0).then_some(u64::from(*last)),
    }
}

/// Unix time in whole seconds.
pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn told(kernel: &Kernel, changed: &weir_l4::Changed, began: Instant) -> Changed {
    Changed {
        added: changed.added,
        removed: changed.removed,
        total: kernel.ban_count(),
        duplicates: 0,
        covered: 0,
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
    // What the disk refused says itself what holds.
    let end =
        if matches!(error, weir_l4::Error::Store { .. }) { "" } else { "; nothing was changed" };
    Answer::problem(StatusCode::CONFLICT, format!("{error}{end}"))
}
