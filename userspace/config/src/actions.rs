//! What becomes of requests that match, and how they are changed on their way.

use weir_model::{
    Action, Compress, Encoding, HeaderEdits, Mirror, PathPattern, Redirect, Respond, Rewrite,
    Service, Split, SplitOn,
};

use crate::conditions::{split_on, token};
use crate::key::{Key, Named, Table, scalar};
use crate::mistake::Mistakes;
use crate::routes::find;
use crate::value;

/// Bytes of an answer of our own.
const BODY_SIZE_MAX: usize = 64 * 1024;
/// Media types that are text, more or less.
const TYPES_DEFAULT: [&str; 7] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "image/svg+xml",
    "application/manifest+json",
];
const MIN_SIZE_DEFAULT: u64 = 1024;

pub(crate) const SPLIT: &[Key] = &[
    Key::new("service", "one of the services (required)", "", "orders-next"),
    Key::new("weight", "its share, 0 to 65535", "100", "10"),
];

pub(crate) const REDIRECT: &[Key] = &[
    Key::new(
        "to",
        "the new address; `{scheme}`, `{host}`, `{path}` and `{query}` are the request's (required)",
        "",
        "https://{host}{path}{query}",
    ),
    Key::new("status", "301, 302, 303, 307 or 308", "302", "308"),
];

pub(crate) const RESPOND: &[Key] = &[
    Key::new("status", "200 to 599", "200", "503"),
    Key::new("body", "what it says", "nothing", "\"back soon\\n\""),
    Key::new("content-type", "its media type", "text/plain; charset=utf-8", "application/json"),
];

pub(crate) const REWRITE: &[Key] = &[
    Key::new(
        "path",
        "takes the place of what matched of the path; `$1` are groups of a regular expression",
        "as it is",
        "/internal",
    ),
    Key::new("host", "the host that the service is asked for", "the client's", "orders.internal"),
];

pub(crate) const EDITS: &[Key] = &[
    Key::new("remove", "names of fields that are left out", "none", "[server, x-powered-by]"),
    Key::new("set", "fields that replace those of the same name", "none", "{ x-tier: gold }"),
    Key::new("add", "fields that come on top", "none", "{ vary: accept }"),
];

pub(crate) const MIRROR: &[Key] = &[
    Key::new("service", "who gets the copies (required)", "", "orders-next"),
    Key::new("percent", "of so many requests", "100%", "5%"),
];

pub(crate) const COMPRESS: &[Key] = &[
    Key::new(
        "encodings",
        "in the order of preference: zstd, br, gzip",
        "[zstd, br, gzip]",
        "[gzip]",
    ),
    Key::new(
        "types",
        "media types; `text/*` is every text",
        "texts, JSON, JavaScript, XML, SVG, WebAssembly",
        "[text/*, application/json]",
    ),
    Key::new("min-size", "shorter answers stay as they are", "1KiB", "256B"),
];

pub(crate) fn read(
    route: &Table<'_>,
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) -> Option<Action> {
    const KINDS: [&str; 4] = ["service", "split", "redirect", "respond"];
    let given: Vec<_> = KINDS.into_iter().filter(|kind| route.get(kind).is_some()).collect();
    let on = split_on(route, "split-on", mistakes);
    if let (Some(_), true, Some(node)) = (&on, given != ["split"], route.get("split-on")) {
        mistakes.add(node.at, "`split-on` needs `split`");
    }
    let [kind] = given.as_slice() else {
        let message = "a route needs one of `service`, `split`, `redirect` or `respond`";
        mistakes.add(route.at, message);
        return None;
    };
    match *kind {
        "service" => {
            let service =
                route.read("service", mistakes, |text| find("service", text, services))?;
            Some(Action::Forward(Split { on: SplitOn::Random, parts: vec![(service, 1)] }))
        }
        "split" => split(route, on.unwrap_or_default(), services, mistakes).map(Action::Forward),
        "redirect" => redirect(route, mistakes).map(Action::Redirect),
        _ => respond(route, mistakes).map(Action::Respond),
    }
}

fn split(
    route: &Table<'_>,
    on: SplitOn,
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) -> Option<Split> {
    let mut parts = Vec::new();
    for node in route.list("split", mistakes) {
        let Some(table) = Table::open(node, "a part of `split`", SPLIT, mistakes) else { continue };
        let service = table.require("service", mistakes, |text| find("service", text, services));
        let weight = table.read("weight", mistakes, value::short).unwrap_or(100);
        parts.extend(service.map(|service| (service, weight)));
    }
    if parts.iter().all(|(_, weight)| *weight == 0) {
        mistakes.add(route.at, "`split` needs a service with a weight above 0");
        return None;
    }
    Some(Split { on, parts })
}

fn redirect(route: &Table<'_>, mistakes: &mut Mistakes) -> Option<Redirect> {
    let table = route.section("redirect", "`redirect`", REDIRECT, mistakes)?;
    let status = table.read("status", mistakes, |text| match text {
        "301" => Ok(301),
        "302" => Ok(302),
        "303" => Ok(303),
        "307" => Ok(307),
        "308" => Ok(308),
        _ => Err(format!("`{text}` is none of 301, 302, 303, 307 and 308")),
    });
    let to = table.require("to", mistakes, location);
    Some(Redirect { status: status.unwrap_or(302), to: to? })
}

fn location(text: &str) -> Result<String, String> {
    const NAMES: [&str; 4] = ["{scheme}", "{host}", "{path}", "{query}"];
    let mut rest = text.to_owned();
    NAMES.iter().for_each(|name| rest = rest.replace(name, ""));
    if text.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(format!("`{text}` is no address"))
    } else if rest.contains(['{', '}']) {
        Err(format!("in `{text}` stands a name that is none of {}", NAMES.join(", ")))
    } else {
        Ok(text.to_owned())
    }
}

fn respond(route: &Table<'_>, mistakes: &mut Mistakes) -> Option<Respond> {
    let table = route.section("respond", "`respond`", RESPOND, mistakes)?;
    let status = table.read("status", mistakes, |text| value::number(text, 200..=599));
    let body = table.read("body", mistakes, |text| {
        if text.len() > BODY_SIZE_MAX {
            Err("longer than 64 KiB".to_owned())
        } else {
            Ok(text.to_owned())
        }
    });
    let content_type = table.read("content-type", mistakes, field_value);
    Some(Respond {
        status: status.and_then(|status| u16::try_from(status).ok()).unwrap_or(200),
        body: body.unwrap_or_default(),
        content_type: content_type.unwrap_or_else(|| "text/plain; charset=utf-8".to_owned()),
    })
}

pub(crate) fn rewrite(
    route: &Table<'_>,
    paths: &[PathPattern],
    mistakes: &mut Mistakes,
) -> Rewrite {
    let strip_path = route.read("strip-path", mistakes, value::boolean).unwrap_or(false);
    let table = route.section("rewrite", "`rewrite`", REWRITE, mistakes);
    let (mut path, mut host) = (None, None);
    if let Some(table) = table {
        path = table.read("path", mistakes, new_path);
        host = table.read("host", mistakes, new_host);
    }
    if strip_path && path.is_some() {
        mistakes.add(route.at, "`strip-path` and `rewrite.path` both say what becomes of the path");
    }
    if (strip_path || path.is_some()) && paths.is_empty() {
        mistakes
            .add(route.at, "a route that changes the path needs `paths`: what matched is changed");
    }
    Rewrite { strip_path, path, host }
}

fn new_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    if is_path { Ok(text.to_owned()) } else { Err(format!("`{text}` is no path like /internal")) }
}

fn new_host(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if !text.is_empty() && text.bytes().all(allowed) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("`{text}` is no host"))
    }
}

pub(crate) fn edits(route: &Table<'_>, name: &'static str, mistakes: &mut Mistakes) -> HeaderEdits {
    let Some(table) = route.section(name, name, EDITS, mistakes) else {
        return HeaderEdits::default();
    };
    HeaderEdits {
        remove: table.values("remove", mistakes, editable),
        set: fields(&table, "set", mistakes),
        add: fields(&table, "add", mistakes),
    }
}

fn fields(table: &Table<'_>, name: &'static str, mistakes: &mut Mistakes) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for entry in table.map(name, mistakes) {
        match editable(&entry.name) {
            Ok(field) => {
                let value = scalar(&entry.node, name, mistakes, field_value);
                fields.extend(value.map(|value| (field, value)));
            }
            Err(message) => mistakes.add(entry.at, format!("`{name}`: {message}")),
        }
    }
    fields
}

/// Fields that say how a message is framed or whose connection it is are ours to write.
fn editable(text: &str) -> Result<String, String> {
    const OURS: [&str; 10] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
    ];
    let name = token(text)?.to_ascii_lowercase();
    match name.as_str() {
        "host" => Err("`host` is changed by `rewrite.host`".to_owned()),
        name if OURS.contains(&name) => Err(format!("`{name}` is for Weir to write")),
        _ => Ok(name),
    }
}

fn field_value(text: &str) -> Result<String, String> {
    if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        Ok(text.trim().to_owned())
    } else {
        Err("holds a character that no field may hold".to_owned())
    }
}

pub(crate) fn mirror(
    route: &Table<'_>,
    services: &[Named<Service>],
    mistakes: &mut Mistakes,
) -> Option<Mirror> {
    let table = route.section("mirror", "`mirror`", MIRROR, mistakes)?;
    let service = table.require("service", mistakes, |text| find("service", text, services));
    let basis_points = table.read("percent", mistakes, value::basis_points).unwrap_or(10_000);
    Some(Mirror { service: service?, basis_points })
}

pub(crate) fn compress(route: &Table<'_>, mistakes: &mut Mistakes) -> Option<Compress> {
    let table = route.section("compress", "`compress`", COMPRESS, mistakes)?;
    let mut encodings =
        table.values("encodings", mistakes, |text| value::word(text, &Encoding::NAMES));
    if encodings.is_empty() {
        encodings = Encoding::NAMES.iter().map(|(_, encoding)| *encoding).collect();
    }
    let mut types = table.values("types", mistakes, media_type);
    if types.is_empty() {
        types = TYPES_DEFAULT.map(str::to_owned).to_vec();
    }
    let min_size = table.read("min-size", mistakes, value::size).unwrap_or(MIN_SIZE_DEFAULT);
    Some(Compress { encodings, types, min_size })
}

fn media_type(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed)
    };
    match text.split_once('/') {
        Some((kind, sub)) if is_part(kind) && is_part(sub) => Ok(text.to_ascii_lowercase()),
        _ => Err(format!("`{text}` is no media type like text/html or text/*")),
    }
}
