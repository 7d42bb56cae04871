//! `ipset save`: `add NAME ELEMENT [timeout SECONDS] [comment "…"]`.

use std::time::{Duration, SystemTime};

use super::{Line, element};

/// Lines that set up sets and say nothing of sources.
const OTHERS: [&str; 6] = ["create ", "flush ", "destroy ", "swap ", "rename ", "-"];

/// Reads a line if it is one of ipset's.
pub(super) fn read(
    line: &str,
    now: SystemTime,
    tell: &mut dyn FnMut(Line<'_>),
) -> Option<Result<(), String>> {
    if OTHERS.iter().any(|other| line.starts_with(other)) {
        return Some(Ok(()));
    }
    let rest = line.strip_prefix("add ")?;
    let mut words = rest.split_whitespace().skip(1);
    let source = words.next().unwrap_or_default();
    let options: Vec<_> = words.collect();
    if options.contains(&"nomatch") {
        return Some(Err("an exception, which a list of bans cannot hold".to_owned()));
    }
    let timeout = options.iter().position(|word| *word == "timeout");
    let timeout = timeout.and_then(|at| options.get(at + 1)?.parse().ok()).filter(|&left| left > 0);
    let expires = timeout.and_then(|left| now.checked_add(Duration::from_secs(left)));
    let reason = quoted(rest);
    Some(element(source, &mut |cidr| tell(Line { cidr, reason, expires })))
}

/// What stands between the first and the last quotation mark.
pub(super) fn quoted(text: &str) -> &str {
    let inner = text.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
    inner.map_or("", |(inner, _)| inner)
}
