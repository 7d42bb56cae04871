//! `weir status`, and tables for people.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use hyper::Method;
use weir_admin::api::{Kernel, Status, Upstream};
use weir_admin::client::Body;

use super::Instance;
use super::ask::{ask, print};

pub(crate) fn status(instance: &Instance) -> Result<ExitCode> {
    let status: Status = ask(instance, Method::GET, "/status", Body::None)?;
    print(instance, &status, page)
}

fn page(status: &Status) -> String {
    let state = match (status.draining, status.ready) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "starting",
    };
    let Status { version, pid, uptime_seconds, generation, reactors, .. } = status;
    let mut page = format!(
        "weir {version}, pid {pid}: {state}, up {}, generation {generation}, {reactors} reactors by {}\n",
        duration(*uptime_seconds),
        status.selection
    );
    if let Some(pid) = status.draining_pid {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "pid {pid}, which it took over from, answers what is open");
    }
    kernel(status.kernel.as_ref(), &mut page);
    page += "\n";
    if !status.vips.is_empty() {
        page += &super::vip::text(&status.vips);
        page += "\n";
    }
    if let Some(guard) = &status.guard {
        page += &super::guard::text(guard);
        page += "\n";
    }
    let listeners = status.listeners.iter().map(|listener| {
        [listener.name.clone(), listener.address.to_string(), listener.connections.to_string()]
    });
    if !status.listeners.is_empty() {
        page += &table(["listener", "address", "connections"], listeners);
        page += "\n";
    }
    page += &backends(&status.upstreams);
    let requests = &status.requests;
    // Writing to a String cannot fail.
    let _ = write!(page, "\nrequests {}, retried {}", requests.total, requests.retries);
    for refused in &requests.refused {
        let _ = write!(page, ", {} {}", refused.reason, refused.count);
    }
    page + "\n"
}

fn kernel(kernel: Option<&Kernel>, page: &mut String) {
    let Some(kernel) = kernel else {
        *page += "kernel off: nothing is dropped before it reaches a socket\n";
        return;
    };
    let interfaces = kernel.interfaces.iter().map(|on| format!("{} ({})", on.name, on.mode));
    let interfaces = interfaces.collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        page,
        "kernel XDP on {interfaces}, {} prefixes banned{}, {} allowed\n",
        kernel.bans,
        if kernel.dry_run { " (dry-run: nothing is dropped)" } else { "" },
        kernel.allowed
    );
    let verdicts = kernel.verdicts.iter().filter(|verdict| verdict.packets > 0).map(|verdict| {
        let (packets, bytes) = (verdict.packets.to_string(), verdict.bytes.to_string());
        [verdict.verdict.clone(), verdict.reason.clone(), packets, bytes]
    });
    *page += &table(["verdict", "reason", "packets", "bytes"], verdicts);
}

fn backends(upstreams: &[Upstream]) -> String {
    let rows = upstreams.iter().flat_map(|upstream| {
        upstream.backends.iter().map(|backend| {
            [
                upstream.name.clone(),
                backend.address.to_string(),
                backend.health.clone(),
                backend.requests.to_string(),
                backend.failures.to_string(),
                backend.open.to_string(),
            ]
        })
    });
    table(["upstream", "backend", "health", "requests", "failures", "open"], rows)
}

/// Seconds for people.
pub(crate) fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Aligned columns under a heading; numbers to the right.
pub(crate) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut lines = vec![heading.map(ToOwned::to_owned)];
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| {
            if is_number(cell) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a".to_owned(), "7".to_owned()], ["longer".to_owned(), "1234".to_owned()]];
        let expected = "name    count\na           7\nlonger   1234\n";
        assert_eq!(table(["name", "count"], rows.into_iter()), expected);
    }

    #[test]
    fn durations_for_people() {
        for (seconds, expected) in
            [(5, "5 s"), (65, "1 min 5 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), expected);
        }
    }
}
