//! What must hold of a request besides host and path.

use weir_model::{Cidr, Conditions, Share, SplitOn, ValuePattern};

use crate::key::{Key, Table, scalar};
use crate::mistake::Mistakes;
use crate::node::Value;
use crate::routes::{host, regex_text};
use crate::value;

/// Characters of a name of a header or cookie.
const NAME_SIZE_MAX: usize = 256;
/// Characters of a value.
const TEXT_SIZE_MAX: usize = 4096;

pub(crate) const SHARE: &[Key] = &[
    Key::new("percent", "how large the share is, 0.01% to 100% (required)", "", "10%"),
    Key::new(
        "on",
        "what tells clients apart: source, `{ cookie: NAME }` or `{ header: NAME }`",
        "source",
        "{ cookie: visitor }",
    ),
];

pub(crate) const SPLIT_ON: &[Key] = &[
    Key::new("cookie", "the value of this cookie", "", "visitor"),
    Key::new("header", "the value of this header", "", "x-user"),
];

pub(crate) fn read(route: &Table<'_>, mistakes: &mut Mistakes) -> Conditions {
    Conditions {
        methods: route.values("methods", mistakes, method),
        headers: values(route, "headers", mistakes)
            .into_iter()
            .map(|(name, pattern)| (name.to_ascii_lowercase(), pattern))
            .collect(),
        query: values(route, "query", mistakes),
        cookies: values(route, "cookies", mistakes),
        sources: route.values("sources", mistakes, source),
        snis: route.values("snis", mistakes, host),
        share: share(route, mistakes),
    }
}

fn method(text: &str) -> Result<String, String> {
    let is_token = !text.is_empty() && text.bytes().all(is_token);
    match text.to_ascii_uppercase() {
        upper if is_token && upper == text => Ok(upper),
        upper if is_token => Err(format!("methods are told apart by case; write `{upper}`")),
        _ => Err(format!("`{text}` is no method like GET")),
    }
}

fn source(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|error: weir_model::ParseCidrError| error.to_string())
}

fn values(
    route: &Table<'_>,
    name: &'static str,
    mistakes: &mut Mistakes,
) -> Vec<(String, ValuePattern)> {
    let mut values = Vec::new();
    for entry in route.map(name, mistakes) {
        if !entry.name.bytes().all(is_token) && name != "query" {
            mistakes.add(entry.at, format!("`{name}`: `{}` is no name", entry.name));
            continue;
        }
        let pattern = scalar(&entry.node, name, mistakes, pattern);
        values.extend(pattern.map(|pattern| (entry.name.clone(), pattern)));
    }
    values
}

fn pattern(text: &str) -> Result<ValuePattern, String> {
    match text {
        "*" => Ok(ValuePattern::Present),
        "!" => Ok(ValuePattern::Absent),
        _ if text.len() > TEXT_SIZE_MAX => Err("is too long".to_owned()),
        _ => match text.strip_prefix('~') {
            Some(regex) => regex_text(regex).map(ValuePattern::Regex),
            None => Ok(ValuePattern::Exact(text.to_owned())),
        },
    }
}

fn share(route: &Table<'_>, mistakes: &mut Mistakes) -> Option<Share> {
    let table = route.section("share", "`share`", SHARE, mistakes)?;
    let basis_points = table.require("percent", mistakes, value::basis_points);
    let on = split_on(&table, "on", mistakes);
    match on {
        Some(SplitOn::Random) => {
            mistakes
                .add(table.at, "`share` needs something that stays: source, a cookie or a header");
            None
        }
        on => Some(Share { basis_points: basis_points?, on: on.unwrap_or(SplitOn::Source) }),
    }
}

/// A word, or a map with the one key that says what decides.
pub(crate) fn split_on(
    holder: &Table<'_>,
    name: &'static str,
    mistakes: &mut Mistakes,
) -> Option<SplitOn> {
    const WORDS: [(&str, Word); 2] = [("random", Word::Random), ("source", Word::Source)];
    let node = holder.get(name)?;
    if !matches!(node.value, Value::Map(_)) {
        return scalar(node, name, mistakes, |text| value::word(text, &WORDS)).map(Word::meaning);
    }
    let table = Table::open(node, "what decides", SPLIT_ON, mistakes)?;
    let cookie = table.read("cookie", mistakes, token);
    let header = table.read("header", mistakes, token);
    match (cookie, header) {
        (Some(cookie), None) => Some(SplitOn::Cookie(cookie)),
        (None, Some(header)) => Some(SplitOn::Header(header.to_ascii_lowercase())),
        _ => {
            mistakes.add(table.at, format!("`{name}` needs one of `cookie` or `header`"));
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Word {
    Random,
    Source,
}

impl Word {
    fn meaning(self) -> SplitOn {
        match self {
            Self::Random => SplitOn::Random,
            Self::Source => SplitOn::Source,
        }
    }
}

/// A name as header fields and cookies have them (RFC 9110 section 5.6.2).
pub(crate) fn token(text: &str) -> Result<String, String> {
    if (1..=NAME_SIZE_MAX).contains(&text.len()) && text.bytes().all(is_token) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no name of letters, digits and `-`"))
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
