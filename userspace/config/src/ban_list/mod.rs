//! Lists of bans in the forms that people have them: CIDR lines, ranges, JSON lines, `ipset save`,
//! nft set listings. What a line is, its beginning says; a file may mix them.

mod ipset;
mod json;
mod nft;
mod range;

use std::fmt;
use std::time::SystemTime;

use weir_model::{Cidr, ParseCidrError};

/// Lines that could not be read and are kept for the report.
const SKIPPED_MAX: usize = 10;
/// Characters of such a line that are kept.
const SKIPPED_TEXT_MAX: usize = 60;

/// A ban as a line of a list says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The prefix.
    pub cidr: Cidr,
    /// Why; may be empty.
    pub reason: &'a str,
    /// When it ends; `None` is never.
    pub expires: Option<SystemTime>,
}

impl Line<'_> {
    fn bare(cidr: Cidr) -> Self {
        Self { cidr, reason: "", expires: None }
    }
}

/// What of a list could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that could not be read.
    pub skipped: usize,
    /// The first of them.
    pub first: Vec<Skipped>,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Counted from 1.
    pub line: usize,
    /// Its beginning.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.text, self.why)
    }
}

/// Reads a list and tells of every prefix; `now` is when what lasts for a while begins. Lines that
/// cannot be read are skipped and told of in the end.
pub fn parse(text: &[u8], now: SystemTime, tell: &mut dyn FnMut(Line<'_>)) -> Report {
    let (mut report, mut nft) = (Report::default(), nft::Listing::default());
    for (number, bytes) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let read = match std::str::from_utf8(bytes) {
            Ok(line) => read(line.trim(), now, &mut nft, tell),
            Err(_) => Err("not UTF-8".to_owned()),
        };
        if let Err(why) = read {
            report.skip(number, bytes, why);
        }
    }
    report
}

fn read(
    line: &str,
    now: SystemTime,
    nft: &mut nft::Listing,
    tell: &mut dyn FnMut(Line<'_>),
) -> Result<(), String> {
    match line.as_bytes().first() {
        None | Some(b'#' | b';') => return Ok(()),
        Some(b'{') if !nft.is_open() => return json::read(line, now, tell),
        // Most lines of most lists.
        Some(b'0'..=b'9') if !nft.is_open() => return bare(line, tell),
        _ => {}
    }
    if nft.reads(line) {
        return nft.read(line, now, tell);
    }
    match ipset::read(line, now, tell) {
        Some(read) => read,
        None => bare(line, tell),
    }
}

/// A prefix, an address or a range, with a comment behind it.
fn bare(line: &str, tell: &mut dyn FnMut(Line<'_>)) -> Result<(), String> {
    let text = line.split(['#', ';']).next().unwrap_or_default().trim();
    element(text, &mut |cidr| tell(Line::bare(cidr)))
}

/// A prefix, an address or a range.
fn element(text: &str, tell: &mut dyn FnMut(Cidr)) -> Result<(), String> {
    match text.parse() {
        Ok(cidr) => tell(cidr),
        Err(why) => match text.split_once('-') {
            Some((first, last)) => range::read(first.trim(), last.trim(), tell)?,
            None => return Err(ParseCidrError::to_string(&why)),
        },
    }
    Ok(())
}

impl Report {
    fn skip(&mut self, line: usize, text: &[u8], why: String) {
        self.skipped += 1;
        if self.first.len() < SKIPPED_MAX {
            // Control characters would reach the operator's terminal.
            let text = String::from_utf8_lossy(text);
            let text = text.trim().chars().filter(|character| !character.is_control());
            let text = text.take(SKIPPED_TEXT_MAX).collect();
            self.first.push(Skipped { line, text, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// The prefixes of a list, each with reason and seconds until its end where it has them.
    fn check(text: &str, expected: &[&str], skipped: &[&str]) {
        let mut told = Vec::new();
        let report = parse(text.as_bytes(), UNIX_EPOCH, &mut |line| {
            let mut text = line.cidr.to_string();
            if !line.reason.is_empty() {
                text += &format!(" {}", line.reason);
            }
            if let Some(end) = line.expires {
                let left = end.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                text += &format!(" {}s", left.as_secs());
            }
            told.push(text);
        });
        assert_eq!(told, expected, "{text}");
        let first: Vec<_> = report.first.iter().map(ToString::to_string).collect();
        assert_eq!(first, skipped, "{text}");
        assert_eq!(report.skipped, skipped.len());
    }

    #[test]
    fn cidr_lines_with_comments() {
        check(
            "# spammers\n192.0.2.1\r\n\n 198.51.100.0/24 # all of it\n; SBL\n203.0.113.0/24 ; SBL1\n\
             nobody\x1b[2J\n2001:db8::/33\n10.0.0.0/40",
            &["192.0.2.1/32", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/33"],
            &[
                "line 7: `nobody[2J`: not an IPv4 or IPv6 address or prefix",
                "line 9: `10.0.0.0/40`: prefix length out of range (IPv4: 0–32, IPv6: 0–128)",
            ],
        );
    }

    #[test]
    fn ranges() {
        check(
            "192.0.2.0-192.0.2.255\n192.0.2.1 - 192.0.2.4 # five\n192.0.2.9-192.0.2.9\n\
             2001:db8::-2001:db8::3\n192.0.2.2-192.0.2.1\n192.0.2.1-2001:db8::\n1.2.3.4-x\n\
             255.255.255.254-255.255.255.255",
            &[
                "192.0.2.0/24",
                "192.0.2.1/32",
                "192.0.2.2/31",
                "192.0.2.4/32",
                "192.0.2.9/32",
                "2001:db8::/126",
                "255.255.255.254/31",
            ],
            &[
                "line 5: `192.0.2.2-192.0.2.1`: the range ends before it begins",
                "line 6: `192.0.2.1-2001:db8::`: the range begins in one family and ends in the other",
                "line 7: `1.2.3.4-x`: not a range of two addresses",
            ],
        );
    }

    #[test]
    fn json_lines() {
        check(
            "{\"cidr\": \"192.0.2.0/24\", \"reason\": \"rude\", \"ttl\": \"1h\"}\n\
             {\"ip\":\"192.0.2.7\",\"ttl\":90}\n{\"cidr\":\"2001:db8::/32\",\"expires\":77,\"origin\":\"x\"}\n\
             {\"cidr\":\"192.0.2.0/24\"\n{\"cidr\":\"nobody\"}\n{\"reason\":\"x\"}\n\
             {\"cidr\":\"192.0.2.8\",\"ttl\":\"soon\"}\n{\"cidr\":\"192.0.2.9\",\"reason\":\"a\\nb\"}",
            &[
                "192.0.2.0/24 rude 3600s",
                "192.0.2.7/32 90s",
                "2001:db8::/32 77s",
                "192.0.2.9/32 a b",
            ],
            &[
                "line 4: `{\"cidr\":\"192.0.2.0/24\"`: no JSON object: EOF while parsing an object at column 22",
                "line 5: `{\"cidr\":\"nobody\"}`: not an IPv4 or IPv6 address or prefix",
                "line 6: `{\"reason\":\"x\"}`: neither `cidr` nor `ip`",
                "line 7: `{\"cidr\":\"192.0.2.8\",\"ttl\":\"soon\"}`: ttl: `soon` is no duration like 250ms, 10s, 5m or 1h",
            ],
        );
    }

    #[test]
    fn ipset_save() {
        check(
            "create bad hash:net family inet hashsize 1024 maxelem 65536 timeout 0 comment\n\
             add bad 192.0.2.0/24\nadd bad 198.51.100.7 timeout 300 comment \"rude client\"\n\
             add bad 192.0.2.64/26 nomatch\nadd ports 192.0.2.1,tcp:80\nadd bad\nadd bad 1.2.3.4-1.2.3.5",
            &["192.0.2.0/24", "198.51.100.7/32 rude client 300s", "1.2.3.4/31"],
            &[
                "line 4: `add bad 192.0.2.64/26 nomatch`: an exception, which a list of bans cannot hold",
                "line 5: `add ports 192.0.2.1,tcp:80`: not an IPv4 or IPv6 address or prefix",
                "line 6: `add bad`: not an IPv4 or IPv6 address or prefix",
            ],
        );
    }

    #[test]
    fn nft_set_listing() {
        check(
            "table inet filter {\n\tset bad {\n\t\ttype ipv4_addr\n\t\tflags interval,timeout\n\
             \t\telements = { 192.0.2.0/24, 198.51.100.7 timeout 1h expires 59m58s,\n\
             \t\t\t     203.0.113.1-203.0.113.2 comment \"two of them\", nobody,\n\
             \t\t\t     203.0.113.9 }\n\t}\n}\n10.0.0.1\n",
            &[
                "192.0.2.0/24",
                "198.51.100.7/32 3598s",
                "203.0.113.1/32 two of them",
                "203.0.113.2/32 two of them",
                "203.0.113.9/32",
                "10.0.0.1/32",
            ],
            &[
                "line 6: `203.0.113.1-203.0.113.2 comment \"two of them\", nobody,`: `nobody`: not an IPv4 or IPv6 address or prefix",
            ],
        );
        check("elements = { 192.0.2.1 }", &["192.0.2.1/32"], &[]);
    }
}
