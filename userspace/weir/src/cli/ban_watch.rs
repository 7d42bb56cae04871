//! `weir ban watch`: packets as they are dropped.

use std::io::Write;
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::Result;
use weir_admin::api::{Watched, WatchedPacket};
use weir_admin::client;

use super::Instance;
use super::ask::wait;

pub(crate) fn watch(instance: &Instance, count: Option<u64>) -> Result<ExitCode> {
    let mut left = count;
    let tell = |watched: Watched| {
        let text = if instance.json {
            serde_json::to_string(&watched).unwrap_or_default()
        } else {
            line(&watched)
        };
        // A reader that has seen enough (`| head`) is no failure.
        if writeln!(std::io::stdout(), "{text}").is_err() {
            return ControlFlow::Break(());
        }
        if matches!(watched, Watched::Packet(_)) {
            left = left.map(|left| left.saturating_sub(1));
        }
        if left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if count == Some(0) {
        return Ok(ExitCode::SUCCESS);
    }
    wait(client::follow(&instance.socket, "/bans/watch", tell))??;
    Ok(ExitCode::SUCCESS)
}

fn line(watched: &Watched) -> String {
    match watched {
        Watched::Untold { limited, overflowed } => {
            format!("… {limited} packets more than the rate allows, {overflowed} lost")
        }
        Watched::Packet(packet) => packet_line(packet),
    }
}

fn packet_line(packet: &WatchedPacket) -> String {
    let WatchedPacket { time_ms, source, verdict, reason, prefix, origin, ban_reason, size } =
        packet;
    let origin = origin.as_deref().unwrap_or("a ban that has ended");
    let why = if ban_reason.is_empty() { String::new() } else { format!(": {ban_reason}") };
    let (seconds, ms) = (time_ms / 1_000, time_ms % 1_000);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let time = format!("{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
    format!("{time}  {verdict} {reason}  {source}  {size} B  by {prefix} of {origin}{why}")
}
