//! `weir vip`, `weir flow` and `weir top`: layer 4.

use std::fmt::Write;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::Method;
use weir_admin::api::{Done, Explained, Page, Status, Vip};
use weir_admin::client::Body;

use super::ask::{ask, print};
use super::show::table;
use super::{Flow, Serve, Top, Vips};

pub(crate) fn vip(command: &Vips) -> Result<ExitCode> {
    match command {
        Vips::List { instance } => {
            let page: Page<Vip> = ask(instance, Method::GET, "/vips", Body::None)?;
            print(instance, &page, |page| text(&page.data))
        }
        Vips::Move { name, to, instance } => {
            let to = match to {
                Serve::Local => "local",
                Serve::Forward => "forward",
            };
            let path = format!("/vips/{name}/move?to={to}");
            let done: Done = ask(instance, Method::POST, &path, Body::None)?;
            print(instance, &done, |done| done.message.clone())
        }
    }
}

/// VIPs, each with its backends below it.
pub(crate) fn text(vips: &[Vip]) -> String {
    if vips.is_empty() {
        return "no VIPs\n".to_owned();
    }
    let rows = vips.iter().flat_map(|vip| {
        let own = [
            vip.name.clone(),
            vip.address.clone(),
            vip.forward.clone(),
            if vip.moving_slots == 0 {
                String::new()
            } else {
                format!("{} moving", vip.moving_slots)
            },
            vip.packets.to_string(),
            vip.bytes.to_string(),
            vip.flows.to_string(),
        ];
        let backends = vip.backends.iter().map(|backend| {
            [
                format!("  {}", backend.health),
                backend.address.to_string(),
                String::new(),
                backend.slots.to_string(),
                backend.packets.to_string(),
                backend.bytes.to_string(),
                backend.flows.to_string(),
            ]
        });
        std::iter::once(own).chain(backends.collect::<Vec<_>>())
    });
    let heading = ["VIP", "address", "forward", "slots", "packets", "bytes", "flows"];
    let mut text = table(heading, rows);
    for vip in vips {
        for drop in vip.drops.iter().filter(|drop| drop.count > 0) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}: {} packets dropped: {}", vip.name, drop.count, drop.reason);
        }
    }
    text
}

pub(crate) fn flow(command: &Flow) -> Result<ExitCode> {
    let Flow::Explain { source, destination, udp, instance } = command;
    let protocol = if *udp { "udp" } else { "tcp" };
    let path =
        format!("/flows/explain?source={source}&destination={destination}&protocol={protocol}");
    let explained: Explained = ask(instance, Method::GET, &path, Body::None)?;
    print(instance, &explained, |explained| {
        let rows = explained.stages.iter();
        table(["stage", "decision"], rows.map(|it| [it.stage.clone(), it.decision.clone()]))
    })
}

/// What is going on, again and again: rates since the last look.
pub(crate) fn top(arguments: &Top) -> Result<ExitCode> {
    let Top { instance, interval, count } = arguments;
    let interval = Duration::from_secs_f64(interval.clamp(0.1, 3600.0));
    let is_terminal = std::io::stdout().is_terminal();
    let mut before: Option<(Instant, Status)> = None;
    for look in 0u64.. {
        let status: Status = ask(instance, Method::GET, "/status", Body::None)?;
        let now = Instant::now();
        let page = match &before {
            Some((then, before)) => rates(before, &status, (now - *then).as_secs_f64()),
            None => rates(&status, &status, 1.0),
        };
        let text =
            if instance.json { format!("{}\n", serde_json::to_string(&status)?) } else { page };
        let clear = if is_terminal && !instance.json { "\x1b[H\x1b[2J" } else { "" };
        // A reader that has seen enough (`| head`) is no failure.
        if write!(std::io::stdout(), "{clear}{text}")
            .and_then(|()| std::io::stdout().flush())
            .is_err()
            || count.is_some_and(|count| look + 1 >= count)
        {
            break;
        }
        before = Some((now, status));
        std::thread::sleep(interval);
    }
    Ok(ExitCode::SUCCESS)
}

fn rates(before: &Status, now: &Status, seconds: f64) -> String {
    let rate = |before: u64, now: u64| {
        let rate = now.saturating_sub(before) as f64 / seconds;
        format!("{rate:.0}")
    };
    let mut page = format!(
        "weir {}: {} requests/s, {} reactors\n\n",
        now.version,
        rate(before.requests.total, now.requests.total),
        now.reactors
    );
    if let (Some(then), Some(kernel)) = (&before.kernel, &now.kernel) {
        let rows = kernel.verdicts.iter().zip(&then.verdicts);
        let rows = rows.filter(|(now, _)| now.packets > 0).map(|(now, then)| {
            let (packets, bytes) = (rate(then.packets, now.packets), rate(then.bytes, now.bytes));
            [now.verdict.clone(), now.reason.clone(), packets, bytes, now.packets.to_string()]
        });
        page += &table(["verdict", "reason", "packets/s", "bytes/s", "packets"], rows);
    }
    let of = |vips: &[Vip], name: &str| vips.iter().find(|vip| vip.name == name).cloned();
    let mut rows = Vec::new();
    for vip in &now.vips {
        let then = of(&before.vips, &vip.name).unwrap_or_else(|| vip.clone());
        rows.push([
            vip.name.clone(),
            vip.address.clone(),
            rate(then.packets, vip.packets),
            rate(then.bytes, vip.bytes),
            rate(then.flows, vip.flows),
            vip.moving_slots.to_string(),
            vip.drops.iter().map(|drop| drop.count).sum::<u64>().to_string(),
        ]);
        for backend in &vip.backends {
            let then = then.backends.iter().find(|it| it.address == backend.address);
            let then = then.unwrap_or(backend);
            rows.push([
                format!("  {}", backend.health),
                backend.address.to_string(),
                rate(then.packets, backend.packets),
                rate(then.bytes, backend.bytes),
                rate(then.flows, backend.flows),
                String::new(),
                String::new(),
            ]);
        }
    }
    if !rows.is_empty() {
        let heading =
            ["VIP", "address", "packets/s", "bytes/s", "flows/s", "moving slots", "dropped"];
        page += "\n";
        page += &table(heading, rows.into_iter());
    }
    if let Some(guard) = now.guard.as_ref().filter(|guard| !guard.guarded.is_empty()) {
        page += "\n";
        page += &super::guard::text(guard);
    }
    page
}
