//! `weir ban` and `weir allow`.

use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hyper::Method;
use weir_admin::api::{self, BanStats, Change, Changed, Page, Test};
use weir_admin::client::Body;

use super::ask::{ask, print};
use super::show::{duration, table};
use super::{Allow, Ban, Instance};

/// Prefixes that are asked for at a time.
const PAGE_SIZE: usize = 10_000;

pub(crate) fn ban(command: &Ban) -> Result<ExitCode> {
    match command {
        Ban::Add { cidrs, ttl, reason, dry_run, force, instance } => {
            let change = Change {
                cidrs: cidrs.clone(),
                ttl: ttl.clone(),
                reason: reason.clone(),
                dry_run: *dry_run,
                force: *force,
                operator: operator(),
            };
            change_and_print(instance, Method::POST, "/bans", &change, "banned")
        }
        Ban::Del { list: Some(list), instance, .. } => {
            let path = format!("/bans?list={list}");
            let changed: Changed = ask(instance, Method::DELETE, &path, Body::None)?;
            print(instance, &changed, |changed| tell(changed, "banned"))
        }
        Ban::Del { cidrs, instance, .. } => {
            let change = Change { cidrs: cidrs.clone(), ..Change::default() };
            change_and_print(instance, Method::DELETE, "/bans", &change, "banned")
        }
        Ban::List { limit, instance } => {
            let (bans, more) = read_some(instance, *limit)?;
            print(instance, &Page { data: bans, next: more }, list)
        }
        Ban::Test { ip, instance } => {
            let test: Test = ask(instance, Method::GET, &format!("/bans/test/{ip}"), Body::None)?;
            print(instance, &test, explain)
        }
        Ban::Load(load) => super::ban_load::load(load),
        Ban::Save { file, name, instance } => save(instance, file, name.as_deref()),
        Ban::Stats { instance } => {
            let stats: BanStats = ask(instance, Method::GET, "/bans/stats", Body::None)?;
            print(instance, &stats, page)
        }
        Ban::Watch { count, instance } => super::ban_watch::watch(instance, *count),
    }
}

/// Where the operator is logged in from.
pub(crate) fn operator() -> Option<IpAddr> {
    std::env::var("SSH_CONNECTION").ok()?.split(' ').next()?.parse().ok()
}

/// Up to `limit` prefixes, and from where there are more.
fn read_some(instance: &Instance, limit: usize) -> Result<(Vec<api::Ban>, Option<String>)> {
    let (mut bans, mut prefixes, mut after) = (Vec::new(), 0, None);
    while prefixes < limit {
        let count = (limit - prefixes).min(PAGE_SIZE);
        let page = page_after(instance, after.as_deref(), count)?;
        prefixes += count;
        bans.extend(page.data);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok((bans, after))
}

fn page_after(instance: &Instance, after: Option<&str>, count: usize) -> Result<Page<api::Ban>> {
    let after = after.map_or(String::new(), |after| format!("&after={after}"));
    ask(instance, Method::GET, &format!("/bans?limit={count}{after}"), Body::None)
}

/// Writes every ban, a JSON object a line; a file is there whole or not at all.
fn save(instance: &Instance, file: &Path, name: Option<&str>) -> Result<ExitCode> {
    let origin = name.map(|name| format!("list {name}"));
    let is_asked = |ban: &api::Ban| origin.as_ref().is_none_or(|origin| *origin == ban.origin);
    let write = |sink: &mut dyn Write| {
        let mut after = None;
        loop {
            let page = page_after(instance, after.as_deref(), PAGE_SIZE)?;
            for ban in page.data.iter().filter(|ban| is_asked(ban)) {
                writeln!(sink, "{}", serde_json::to_string(ban)?)?;
            }
            after = page.next;
            if after.is_none() {
                return anyhow::Ok(());
            }
        }
    };
    if file == Path::new("-") {
        let mut sink = BufWriter::new(std::io::stdout());
        write(&mut sink)?;
        sink.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let attempt = || format!("write {}", file.display());
    let next = file.with_added_extension("next");
    let mut sink = BufWriter::new(std::fs::File::create(&next).with_context(attempt)?);
    let written = write(&mut sink).and_then(|()| Ok(sink.flush()?));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&next);
        return Err(error).with_context(attempt);
    }
    std::fs::rename(&next, file).with_context(attempt)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn allow(command: &Allow) -> Result<ExitCode> {
    let change = |cidrs: &[String]| Change { cidrs: cidrs.to_vec(), ..Change::default() };
    match command {
        Allow::Add { cidrs, instance } => {
            change_and_print(instance, Method::POST, "/allow", &change(cidrs), "allowed")
        }
        Allow::Del { cidrs, instance } => {
            change_and_print(instance, Method::DELETE, "/allow", &change(cidrs), "allowed")
        }
        Allow::List { instance } => {
            let allowed: Page<String> = ask(instance, Method::GET, "/allow", Body::None)?;
            print(instance, &allowed, |allowed| allowed.data.join("\n"))
        }
    }
}

fn change_and_print(
    instance: &Instance,
    method: Method,
    path: &str,
    change: &Change,
    what: &str,
) -> Result<ExitCode> {
    let body = Body::Json(serde_json::to_vec(change)?);
    let changed: Changed = ask(instance, method, path, body)?;
    print(instance, &changed, |changed| tell(changed, what))
}

pub(crate) fn tell(changed: &Changed, what: &str) -> String {
    let Changed { added, removed, total, milliseconds, duplicates, covered, .. } = changed;
    let mut text = format!(
        "{added} added, {removed} removed, {total} {what} now (in force after {milliseconds:.1} ms)\n"
    );
    if duplicates + covered > 0 {
        text += &format!(
            "merged: {duplicates} that stood there before, {covered} inside wider prefixes\n"
        );
    }
    if changed.skipped > 0 {
        text += &format!("{} lines skipped:\n", changed.skipped);
        for line in &changed.skipped_lines {
            text += &format!("  {line}\n");
        }
        let more = changed.skipped - changed.skipped_lines.len().min(changed.skipped);
        if more > 0 {
            text += &format!("  … and {more} more\n");
        }
    }
    text
}

fn list(page: &Page<api::Ban>) -> String {
    let now = now();
    let rows = page.data.iter().map(|ban| {
        let ends = ban
            .expires
            .map_or("never".to_owned(), |end| format!("in {}", duration(end.saturating_sub(now))));
        let seen = ban.last_hit.map_or("never".to_owned(), |last| {
            format!("{} ago", duration(now.saturating_sub(last)))
        });
        let effect = if ban.dry_run { "dry-run" } else { "drop" };
        [
            ban.cidr.clone(),
            effect.to_owned(),
            ban.origin.clone(),
            ends,
            ban.packets.to_string(),
            seen,
            ban.reason.clone(),
        ]
    });
    let heading = ["prefix", "effect", "origin", "ends", "packets", "last hit", "reason"];
    let mut text = table(heading, rows);
    if page.next.is_some() {
        text += "… and more: `--limit` shows them, `weir ban save` writes all\n";
    }
    text
}

fn explain(test: &Test) -> String {
    let mut text = format!("{}: {} ({})\n", test.ip, test.verdict, test.reason);
    if let Some(by) = &test.allowed_by {
        text += &format!("  allowed by {by}\n");
    }
    if let Some(by) = &test.protected_by {
        text += &format!("  protected as {by}: loopback or a backend\n");
    }
    if let Some(ban) = &test.ban {
        let how = if ban.dry_run { " (dry-run)" } else { "" };
        text += &format!("  banned by {} of {}{how}", ban.cidr, ban.origin);
        if !ban.reason.is_empty() {
            text += &format!(": {}", ban.reason);
        }
        text += "\n";
        if ban.packets > 0 {
            let what = if test.verdict == "drop" { "dropped" } else { "counted" };
            text += &format!("  packets {what} so far: {} ({} bytes)\n", ban.packets, ban.bytes);
        }
    }
    if test.dry_run {
        text += "  dry-run: nothing is dropped for any ban\n";
    }
    text
}

fn page(stats: &BanStats) -> String {
    let mut text = format!(
        "{} prefixes banned ({} of them made live), {} allowed{}\n\
         {} packets dropped, {} more would have been\n\
         {:.1} MiB of kernel memory, {:.0} % of the table used, built in {:.0} ms\n",
        stats.prefixes,
        stats.live,
        stats.allowed,
        if stats.dry_run { "; dry-run: nothing is dropped" } else { "" },
        stats.dropped_packets,
        stats.would_drop_packets,
        stats.memory_bytes as f64 / f64::from(1 << 20),
        stats.used * 100.0,
        stats.built_in_milliseconds,
    );
    if stats.lists.is_empty() {
        return text;
    }
    let now = now();
    let rows = stats.lists.iter().map(|list| {
        let effect = if list.dry_run { "dry-run" } else { "drop" };
        [
            list.name.clone(),
            effect.to_owned(),
            list.prefixes.to_string(),
            list.packets.to_string(),
            list.bytes.to_string(),
            format!("{} ago", duration(now.saturating_sub(list.created))),
        ]
    });
    text += "\n";
    text + &table(["list", "effect", "prefixes", "packets", "bytes", "loaded"], rows)
}

/// Unix time.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
