//! `nft list set`: the elements between braces, which may go over many lines.

use std::time::SystemTime;

use super::ipset::quoted;
use super::{Line, element};

/// Words with which lines of a listing begin that say nothing of sources.
const OTHERS: [&str; 14] = [
    "table",
    "set",
    "map",
    "type",
    "typeof",
    "flags",
    "size",
    "timeout",
    "gc-interval",
    "policy",
    "auto-merge",
    "comment",
    "counter",
    "}",
];

/// Whether the lines are inside the braces of `elements`.
#[derive(Debug, Default)]
pub(super) struct Listing {
    open: bool,
}

impl Listing {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a line belongs to a listing.
    pub(super) fn reads(&self, line: &str) -> bool {
        let word = line.split_whitespace().next().unwrap_or_default();
        self.open || word.starts_with("elements") || OTHERS.contains(&word)
    }

    pub(super) fn read(
        &mut self,
        line: &str,
        now: SystemTime,
        tell: &mut dyn FnMut(Line<'_>),
    ) -> Result<(), String> {
        let mut rest = line;
        if !self.open {
            let Some(inner) = line.strip_prefix("elements").and_then(|rest| rest.split_once('{'))
            else {
                return Ok(());
            };
            rest = inner.1;
            self.open = true;
        }
        if let Some((inner, _)) = rest.split_once('}') {
            rest = inner;
            self.open = false;
        }
        // One that is wrong does not cost the others of its line.
        let mut wrong = None;
        for text in rest.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            if let Err(why) = one(text, now, tell) {
                wrong.get_or_insert(format!("`{text}`: {why}"));
            }
        }
        wrong.map_or(Ok(()), Err)
    }
}

fn one(text: &str, now: SystemTime, tell: &mut dyn FnMut(Line<'_>)) -> Result<(), String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let after = |word| {
        let at = words.iter().position(|known| *known == word)?;
        lasts(words.get(at + 1)?)
    };
    let left = after("expires").or_else(|| after("timeout"));
    let expires = left.and_then(|left| now.checked_add(left));
    let reason = quoted(text);
    let source = words.first().copied().unwrap_or_default();
    element(source, &mut |cidr| tell(Line { cidr, reason, expires }))
}

/// nft writes several units in a row: `1d2h3m4s5ms`.
fn lasts(text: &str) -> Option<std::time::Duration> {
    let mut sum = std::time::Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit())?;
        let end = rest.get(unit..)?.find(|c: char| c.is_ascii_digit());
        let end = end.map_or(rest.len(), |end| unit + end);
        sum += crate::duration(rest.get(..end)?).ok()?;
        rest = rest.get(end..)?;
    }
    Some(sum)
}
