//! `hash-on:` and `sticky:` of an upstream: which requests go to the same backend.

use std::time::Duration;

use weir_model::{HashOn, SameSite, Sticky};

use crate::conditions::token;
use crate::key::{Key, Table, scalar};
use crate::mistake::Mistakes;
use crate::node::Value;
use crate::value;

/// The longest time that clients keep a cookie; browsers have such a limit too.
const TTL_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// Characters of a name of a parameter, and of a path.
const TEXT_SIZE_MAX: usize = 256;

pub(crate) const HASH_ON: &[Key] = &[
    Key::new("header", "the value of this header", "", "x-user"),
    Key::new("cookie", "the value of this cookie", "", "session"),
    Key::new("query", "the value of this parameter of the query", "", "user"),
];

pub(crate) const STICKY: &[Key] = &[
    Key::new("cookie", "the cookie's name (required)", "", "weir"),
    Key::new("ttl", "how long clients keep it, at most 400d", "until their session ends", "1h"),
    Key::new("path", "under which paths they send it", "/", "/shop"),
    Key::new("secure", "whether they send it over TLS only: true or false", "false", "true"),
    Key::new("http-only", "whether scripts cannot see it: true or false", "true", "false"),
    Key::new(
        "same-site",
        "whether they send it with requests that other sites cause: lax, strict or none (which needs \
         `secure: true`)",
        "lax",
        "strict",
    ),
];

/// A word, or a map with the one key that says what is hashed.
pub(crate) fn hash_on(upstream: &Table<'_>, mistakes: &mut Mistakes) -> Option<HashOn> {
    let node = upstream.get("hash-on")?;
    if !matches!(node.value, Value::Map(_)) {
        return scalar(node, "hash-on", mistakes, |text| value::word(text, &HashOn::NAMES));
    }
    let table = Table::open(node, "`hash-on`", HASH_ON, mistakes)?;
    let given = HASH_ON.iter().filter(|key| table.get(key.name).is_some()).count();
    if given != 1 {
        mistakes.add(table.at, "`hash-on` needs one of `header`, `cookie` or `query`");
    }
    let header = table.read("header", mistakes, token);
    let cookie = table.read("cookie", mistakes, token);
    let query = table.read("query", mistakes, parameter);
    header
        .map(|name| HashOn::Header(name.to_ascii_lowercase()))
        .or(cookie.map(HashOn::Cookie))
        .or(query.map(HashOn::Query))
}

pub(crate) fn sticky(upstream: &Table<'_>, mistakes: &mut Mistakes) -> Option<Sticky> {
    let table = upstream.section("sticky", "`sticky`", STICKY, mistakes)?;
    let cookie = table.require("cookie", mistakes, token);
    let sticky = Sticky {
        ttl: table.read("ttl", mistakes, ttl),
        path: table.read("path", mistakes, path).unwrap_or_else(|| "/".to_owned()),
        secure: table.read("secure", mistakes, value::boolean).unwrap_or(false),
        http_only: table.read("http-only", mistakes, value::boolean).unwrap_or(true),
        same_site: table
            .read("same-site", mistakes, |text| value::word(text, &SameSite::NAMES))
            .unwrap_or_default(),
        cookie: cookie?,
    };
    if sticky.same_site == SameSite::None && !sticky.secure {
        mistakes
            .add(table.at, "`same-site: none` needs `secure: true`, or clients refuse the cookie");
    }
    Some(sticky)
}

fn parameter(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"&=#+%".contains(&byte);
    if (1..=TEXT_SIZE_MAX).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no name of a parameter"))
    }
}

fn path(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    if text.starts_with('/') && text.len() <= TEXT_SIZE_MAX && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no path of a cookie like /shop"))
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = value::duration(text).map_err(|error| error.to_string())?;
    if ttl > TTL_MAX {
        return Err("must be at most 400d".to_owned());
    }
    if ttl.subsec_nanos() > 0 { Err("must be whole seconds".to_owned()) } else { Ok(ttl) }
}
