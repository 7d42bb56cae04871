//! `weir route explain`: which route serves a request, and why.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use weir_l7::{Question, RouteTable};
use weir_model::{Action, Config};

use super::Explain;
use crate::run::config;

/// What became of the question, for `--json`.
#[derive(Debug, Serialize)]
struct Answer {
    route: Option<String>,
    /// How the path matched.
    matched: Option<&'static str>,
    /// What the route does.
    action: Option<String>,
    /// The routes that were asked before, each with why it was passed over.
    passed_over: Vec<PassedOver>,
}

#[derive(Debug, Serialize)]
struct PassedOver {
    route: String,
    why: String,
}

/// Prints the route of a request that nobody has sent; fails where there is none.
pub(crate) fn explain(arguments: &Explain) -> Result<ExitCode> {
    let config = config::read(&arguments.file.path)?;
    let table = RouteTable::new(&config.routes)?;
    let explained = table
        .explain(&question(arguments)?, &config.routes)
        .map_err(|why| anyhow::anyhow!("such a request is refused before it is routed: {why}"))?;
    let name = |index: usize| config.routes.get(index).map_or("?", |route| &route.name).to_owned();
    let found = explained.asked.iter().find(|(_, why)| why.is_none()).map(|(index, _)| *index);
    let passed_over = explained
        .asked
        .iter()
        .filter_map(|(index, why)| Some(PassedOver { route: name(*index), why: why.clone()? }));
    let answer = Answer {
        route: found.map(name),
        matched: explained.matched,
        action: found.map(|index| action(&config, index)),
        passed_over: passed_over.collect(),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print(&answer);
    }
    Ok(if answer.route.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(answer: &Answer) {
    for PassedOver { route, why } in &answer.passed_over {
        println!("passed over  {route}: {why}");
    }
    match answer {
        Answer { route: Some(route), matched, action, .. } => {
            let (matched, action) = (matched.unwrap_or(""), action.as_deref().unwrap_or(""));
            println!("route        {route} (by {matched})");
            println!("action       {action}");
        }
        Answer { route: None, .. } => println!("route        none: answered with 404"),
    }
}

fn action(config: &Config, route: usize) -> String {
    let Some(route) = config.routes.get(route) else { return String::new() };
    let service = |index: usize| config.services.get(index).map_or("?", |service| &service.name);
    match &route.action {
        Action::Forward(split) => match split.parts.as_slice() {
            [(only, _)] => format!("service {}", service(*only)),
            parts => {
                let part = |(index, weight): &(usize, u16)| format!("{} {weight}", service(*index));
                let parts: Vec<_> = parts.iter().map(part).collect();
                format!("one of the services {}", parts.join(", "))
            }
        },
        Action::Redirect(redirect) => format!("{} to {}", redirect.status, redirect.to),
        Action::Respond(respond) => format!("answered with {}", respond.status),
    }
}

/// The head that the client would send.
fn question(arguments: &Explain) -> Result<Question> {
    let Explain { url, method, headers, source, sni, .. } = arguments;
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    if !matches!(scheme, "http" | "https") {
        bail!("`{url}` is no URL like https://api.example.com/v1/orders?x=1");
    }
    let path = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(path).context("split the URL")?;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    let names_host = headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:"));
    if !names_host {
        head += &format!("host: {}\r\n", if host.is_empty() { "localhost" } else { host });
    }
    for line in headers {
        if !line.contains(':') || line.contains(['\r', '\n']) {
            bail!("`{line}` is no header like `X-Version: 2`");
        }
        head += &format!("{line}\r\n");
    }
    head += "\r\n";
    let name = host.split(':').next().filter(|name| scheme == "https" && !name.is_empty());
    let server_name = sni.clone().or_else(|| name.map(str::to_ascii_lowercase));
    Ok(Question { head, source: *source, server_name })
}
