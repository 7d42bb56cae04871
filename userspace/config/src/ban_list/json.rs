//! JSON lines: an object a line, as `weir ban save` writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use weir_model::Cidr;

use super::Line;

#[derive(Deserialize)]
struct Object {
    #[serde(alias = "ip", alias = "prefix")]
    cidr: Option<String>,
    #[serde(default)]
    reason: String,
    ttl: Option<Ttl>,
    /// Unix time.
    expires: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ttl {
    Seconds(u64),
    Text(String),
}

pub(super) fn read(
    line: &str,
    now: SystemTime,
    tell: &mut dyn FnMut(Line<'_>),
) -> Result<(), String> {
    let object: Object = serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        // It is always line 1 of this text, which is another of the list.
        format!("no JSON object: {}", text.replace("line 1 ", ""))
    })?;
    let cidr = object.cidr.ok_or("neither `cidr` nor `ip`")?;
    let cidr: Cidr = cidr.trim().parse().map_err(|error| format!("{error}"))?;
    let lasts = match object.ttl {
        None => None,
        Some(Ttl::Seconds(seconds)) => Some(Duration::from_secs(seconds)),
        Some(Ttl::Text(text)) => {
            Some(crate::duration(&text).map_err(|error| format!("ttl: {error}"))?)
        }
    };
    let ends = lasts.and_then(|lasts| now.checked_add(lasts));
    let expires = object.expires.and_then(|end| UNIX_EPOCH.checked_add(Duration::from_secs(end)));
    // It is kept a line each.
    let reason = object.reason.replace(char::is_control, " ");
    tell(Line { cidr, reason: &reason, expires: ends.or(expires) });
    Ok(())
}
