//! Lists of bans: one CIDR a line, `#` comments, blank lines.

use std::fmt;

use weir_model::{Cidr, ParseCidrError};

/// Lines that are no prefix and are kept for the report.
const SKIPPED_MAX: usize = 100;
/// Characters of such a line that are kept.
const SKIPPED_TEXT_MAX: usize = 60;

/// What a list holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanList {
    /// Its prefixes, in its order; one that stands twice is here twice.
    pub cidrs: Vec<Cidr>,
    /// The first lines that are no prefix.
    pub skipped: Vec<Skipped>,
    /// How many lines are no prefix.
    pub skipped_count: usize,
}

/// A line that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Counted from 1.
    pub line: usize,
    /// Its beginning.
    pub text: String,
    /// What is wrong with it.
    pub why: ParseCidrError,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.text, self.why)
    }
}

/// Reads a list. Lines that are no prefix are skipped and told of.
#[must_use]
pub fn parse(text: &[u8]) -> BanList {
    let mut list = BanList::default();
    for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let text = text.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
        if text.is_empty() {
            continue;
        }
        let cidr = std::str::from_utf8(text).map_err(|_| ParseCidrError::Address);
        match cidr.and_then(str::parse) {
            Ok(cidr) => list.cidrs.push(cidr),
            Err(why) => list.skip(line, text, why),
        }
    }
    list
}

impl BanList {
    fn skip(&mut self, line: usize, text: &[u8], why: ParseCidrError) {
        self.skipped_count += 1;
        if self.skipped.len() < SKIPPED_MAX {
            let text = String::from_utf8_lossy(text);
            // Control characters would reach the operator's terminal.
            let text = text.chars().filter(|character| !character.is_control());
            let text = text.take(SKIPPED_TEXT_MAX).collect();
            self.skipped.push(Skipped { line, text, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_prefixes_and_tells_of_the_rest() {
        let list = parse(b"# spammers\n192.0.2.1\r\n\n 198.51.100.0/24 # all of it\nnobody\x1b[2J\n2001:db8::/33\n10.0.0.0/40");
        let cidrs: Vec<_> = list.cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(cidrs, ["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/33"]);
        assert_eq!(list.skipped_count, 2);
        let skipped: Vec<_> = list.skipped.iter().map(ToString::to_string).collect();
        assert_eq!(
            skipped,
            [
                "line 5: `nobody[2J`: not an IPv4 or IPv6 address or prefix",
                "line 7: `10.0.0.0/40`: prefix length out of range (IPv4: 0–32, IPv6: 0–128)"
            ]
        );
    }
}
