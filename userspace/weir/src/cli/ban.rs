//! `weir ban` and `weir allow`.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use hyper::Method;
use weir_admin::api::{self, Change, Changed, Page, Test};
use weir_admin::client::Body;

use super::ask::{ask, print};
use super::show::table;
use super::{Allow, Ban, Instance};

pub(crate) fn ban(command: &Ban) -> Result<ExitCode> {
    match command {
        Ban::Add { cidrs, ttl, reason, instance } => {
            let change = Change { cidrs: cidrs.clone(), ttl: ttl.clone(), reason: reason.clone() };
            change_and_print(instance, Method::POST, "/bans", &change, "banned")
        }
        Ban::Del { cidrs, instance } => {
            let change = Change { cidrs: cidrs.clone(), ..Change::default() };
            change_and_print(instance, Method::DELETE, "/bans", &change, "banned")
        }
        Ban::List { instance } => {
            let bans: Page<api::Ban> = ask(instance, Method::GET, "/bans", Body::None)?;
            print(instance, &bans, |bans| list(&bans.data))
        }
        Ban::Test { ip, instance } => {
            let test: Test = ask(instance, Method::GET, &format!("/bans/test/{ip}"), Body::None)?;
            print(instance, &test, explain)
        }
        Ban::Load { file, replace, name, instance } => {
            load(instance, file, *replace, name.as_deref())
        }
    }
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

fn load(instance: &Instance, file: &Path, replace: bool, name: Option<&str>) -> Result<ExitCode> {
    let mut text = Vec::new();
    let (read, default_name) = if file == Path::new("-") {
        (std::io::stdin().read_to_end(&mut text), "stdin".to_owned())
    } else {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text)), stem)
    };
    read.with_context(|| format!("read the list {}", file.display()))?;
    let name = name.map_or(default_name, ToOwned::to_owned);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        bail!(
            "`{name}` is no name of a list: letters, digits, `.`, `_` or `-`\ngive one with `--name`"
        );
    }
    let path = format!("/bans?list={name}&replace={}", u8::from(replace));
    let changed: Changed = ask(instance, Method::POST, &path, Body::Text(text))?;
    print(instance, &changed, |changed| tell(changed, "banned"))
}

fn tell(changed: &Changed, what: &str) -> String {
    let Changed { added, removed, total, milliseconds, .. } = changed;
    let mut text = format!(
        "{added} added, {removed} removed, {total} {what} now (in force after {milliseconds:.1} ms)\n"
    );
    if changed.skipped > 0 {
        text += &format!("{} lines skipped:\n", changed.skipped);
        for line in &changed.skipped_lines {
            text += &format!("  {line}\n");
        }
    }
    text
}

fn list(bans: &[api::Ban]) -> String {
    let rows = bans.iter().map(|ban| {
        let ends = ban.ends_in_seconds.map_or("never".to_owned(), |left| format!("in {left} s"));
        [ban.cidr.clone(), ban.origin.clone(), ends, ban.reason.clone()]
    });
    table(["prefix", "origin", "ends", "reason"], rows)
}

fn explain(test: &Test) -> String {
    let mut text = format!("{}: {} ({})\n", test.ip, test.verdict, test.reason);
    if let Some(by) = &test.allowed_by {
        text += &format!("  allowed by {by}\n");
    }
    if let Some(ban) = &test.ban {
        text += &format!("  banned by {} of {}", ban.cidr, ban.origin);
        if !ban.reason.is_empty() {
            text += &format!(": {}", ban.reason);
        }
        text += "\n";
    }
    text
}
