//! `weir guard`: what floods meet.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::Method;
use weir_admin::api::{Done, Guard, Guarded, Learned};
use weir_admin::client::Body;

use super::ask::{ask, print};
use super::show::{duration, table};
use super::{Guards, Instance};

pub(crate) fn guard(command: &Guards) -> Result<ExitCode> {
    match command {
        Guards::List { instance } => {
            let guard: Guard = ask(instance, Method::GET, "/guard", Body::None)?;
            print(instance, &guard, text)
        }
        Guards::Set { name, to, instance } => {
            let to = clap::ValueEnum::to_possible_value(to);
            let to = to.map_or(String::new(), |value| value.get_name().to_owned());
            let path = format!("/guard/set/{name}?to={to}");
            let done: Done = ask(instance, Method::POST, &path, Body::None)?;
            print(instance, &done, |done| done.message.clone())
        }
        Guards::Learn { seconds, instance } => learn(*seconds, instance),
    }
}

/// Everything that is guarded.
pub(crate) fn text(guard: &Guard) -> String {
    if guard.guarded.is_empty() {
        return "nothing is guarded\n".to_owned();
    }
    let row = |it: &Guarded| {
        let state = match it.setting.as_str() {
            "auto" => it.state.clone(),
            _ => format!("{} (set)", it.state),
        };
        [
            it.name.clone(),
            it.kind.clone(),
            it.address.clone(),
            state,
            duration(it.since_seconds),
            it.syn_rate.to_string(),
            it.syns.to_string(),
            it.answers.clone(),
            it.answered.to_string(),
            it.proven.to_string(),
            it.dropped.to_string(),
        ]
    };
    let heading = [
        "guard", "kind", "address", "state", "for", "SYNs/s", "SYNs", "answers", "sent",
        "returned", "dropped",
    ];
    let mut text = table(heading, guard.guarded.iter().map(row));
    let tried: Vec<_> =
        guard.tried.iter().map(|it| format!("{} {}", it.reason, it.count)).collect();
    if guard.dry_run || !tried.is_empty() {
        let what = if tried.is_empty() { "nothing so far".to_owned() } else { tried.join(", ") };
        text += &format!("tried without effect: {what}\n");
    }
    text
}

/// Watches traffic for a while, then tells limits that nothing of it would have come near.
fn learn(seconds: u64, instance: &Instance) -> Result<ExitCode> {
    let ask_for = |query: &str| -> Result<Learned> {
        ask(instance, Method::POST, &format!("/guard/learn{query}"), Body::None)
    };
    ask_for(&format!("?seconds={seconds}"))?;
    let (began, whole) = (Instant::now(), Duration::from_secs(seconds));
    let progress = indicatif::ProgressBar::new(seconds)
        .with_style(indicatif::ProgressStyle::with_template("watching {pos}/{len} s {wide_bar}")?);
    while let Some(rest) = whole.checked_sub(began.elapsed()).filter(|rest| !rest.is_zero()) {
        std::thread::sleep(rest.min(Duration::from_secs(1)));
        progress.set_position(began.elapsed().as_secs());
    }
    progress.finish_and_clear();
    let learned = ask_for("")?;
    print(instance, &learned, |learned| {
        let rows = [
            ("syn-rate", "a VIP or listener", &learned.syn_rate),
            ("source-syn-rate", "a source", &learned.source_syn_rate),
            ("source-packet-rate", "a source", &learned.source_packet_rate),
        ];
        let rows = rows.into_iter().map(|(key, whose, rate)| {
            [key.to_owned(), whose.to_owned(), rate.seen.to_string(), rate.limit.to_string()]
        });
        table(["limit", "of", "most a second", "suggested"], rows)
    })
}
