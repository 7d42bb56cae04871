//! Which route serves a request: the most specific match, by hash look-ups.
//!
//! Hosts are tried from the most specific: exact, then the longest `*.` suffix, then routes without
//! hosts. Within a host, paths: exact, then regular expressions in the order of the file, then the
//! longest prefix. Where the routes of a host match no path, the next host is tried. Equal routes go
//! in the order of the file.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::Regex;
use weir_model::{HostPattern, PathPattern, Route};

/// All routes of a configuration, ready to be asked.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, Paths>,
    /// By what follows the `*`, with its leading dot.
    suffixes: HashMap<String, Paths>,
    any: Paths,
}

/// The routes of one host; values are indices of services.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, usize>,
    regexes: Vec<(Regex, usize)>,
    /// Without a trailing slash: `/v1` is asked for `/v1` and whatever is below.
    prefixes: HashMap<String, usize>,
    /// With a trailing slash, asked for what is below alone.
    below: HashMap<String, usize>,
}

impl RouteTable {
    /// The table of these routes.
    ///
    /// # Errors
    /// A regular expression does not compile, which a configuration rules out.
    pub fn new(routes: &[Route]) -> Result<Self, regex::Error> {
        let mut table = Self::default();
        for route in routes {
            if route.hosts.is_empty() {
                table.any.insert(route)?;
            }
            for host in &route.hosts {
                let paths = match host {
                    HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default(),
                    HostPattern::Suffix(name) => table.suffixes.entry(name.clone()).or_default(),
                };
                paths.insert(route)?;
            }
        }
        Ok(table)
    }

    /// The index of the service for a request; `host` may have a port, `path` has no query.
    #[must_use]
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        let path = std::str::from_utf8(path).ok()?;
        let path = normal_path(path)?;
        if !(self.exact.is_empty() && self.suffixes.is_empty()) {
            let host = host_name(host)?;
            if let Some(service) = self.exact.get(&*host).and_then(|paths| paths.find(&path)) {
                return Some(service);
            }
            let mut dots = host.match_indices('.').map(|(dot, _)| dot).filter(|&dot| dot > 0);
            let suffix = dots.find_map(|dot| self.suffixes.get(host.get(dot..)?)?.find(&path));
            if suffix.is_some() {
                return suffix;
            }
        }
        self.any.find(&path)
    }
}

impl Paths {
    fn insert(&mut self, route: &Route) -> Result<(), regex::Error> {
        let service = route.service;
        if route.paths.is_empty() {
            self.below.entry("/".to_owned()).or_insert(service);
        }
        for path in &route.paths {
            match path {
                PathPattern::Exact(path) => {
                    self.exact.entry(path.clone()).or_insert(service);
                }
                PathPattern::Regex(source) => self.regexes.push((Regex::new(source)?, service)),
                PathPattern::Prefix(path) if path.ends_with('/') => {
                    self.below.entry(path.clone()).or_insert(service);
                }
                PathPattern::Prefix(path) => {
                    self.prefixes.entry(path.clone()).or_insert(service);
                }
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Option<usize> {
        if let Some(&service) = self.exact.get(path) {
            return Some(service);
        }
        if let Some((_, service)) = self.regexes.iter().find(|(regex, _)| regex.is_match(path)) {
            return Some(*service);
        }
        self.prefix(path)
    }

    /// Longest first: the path itself, then what stands before each slash, from the right. The
    /// target `*` of OPTIONS is below `/`.
    fn prefix(&self, path: &str) -> Option<usize> {
        if let Some(&service) = self.prefixes.get(path) {
            return Some(service);
        }
        let only_root = self.prefixes.is_empty() && self.below.len() == 1;
        if only_root && let Some(&service) = self.below.get("/") {
            return Some(service);
        }
        for (slash, _) in path.rmatch_indices('/') {
            let below = path.get(..=slash).and_then(|prefix| self.below.get(prefix));
            let found = below.or_else(|| self.prefixes.get(path.get(..slash)?));
            if found.is_some() {
                return found.copied();
            }
        }
        self.below.get("/").filter(|_| path == "*").copied()
    }
}

/// The host without port and trailing dot, in lower case; borrowed where it already is.
fn host_name(host: &[u8]) -> Option<Cow<'_, str>> {
    let host = std::str::from_utf8(host).ok()?;
    let name = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon)?,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(name.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(name))
}

/// The path as a backend is likely to understand it: escapes of characters that need none decoded,
/// `.` and `..` resolved; `None` where `..` leads above the root. Routes are matched against this,
/// or `/public/%2e%2e/admin` would go where `/public` goes; what is forwarded stays as it was sent.
fn normal_path(path: &str) -> Option<Cow<'_, str>> {
    if !(path.contains('%') || path.contains("/.")) {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path);
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = decoded.strip_prefix('/').unwrap_or(&decoded).split('/').peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop()?;
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(segment),
        }
    }
    Some(Cow::Owned(format!("/{}", segments.join("/"))))
}

fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(percent) = rest.find('%') {
        let (before, escape) = rest.split_at_checked(percent).unwrap_or((rest, ""));
        decoded.push_str(before);
        let byte = escape.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
                rest = escape.get(3..).unwrap_or("");
            }
            _ => {
                decoded.push('%');
                rest = escape.get(1..).unwrap_or("");
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(service: usize, hosts: &[&str], paths: &[&str]) -> Route {
        let host = |host: &&str| match host.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
            None => HostPattern::Exact((*host).to_owned()),
        };
        let path = |path: &&str| match path.split_once(' ') {
            Some(("=", path)) => PathPattern::Exact(path.to_owned()),
            Some((_, regex)) => PathPattern::Regex(regex.to_owned()),
            None => PathPattern::Prefix((*path).to_owned()),
        };
        Route {
            name: service.to_string(),
            hosts: hosts.iter().map(host).collect(),
            paths: paths.iter().map(path).collect(),
            service,
        }
    }

    #[test]
    fn the_most_specific_match_wins() {
        let table = RouteTable::new(&[
            route(0, &[], &[]),
            route(1, &["a.example"], &["/v1", "/deep/er"]),
            route(2, &["a.example"], &["= /v1/exact"]),
            route(3, &["a.example"], &["~ ^/v[0-9]+/items$"]),
            route(4, &["*.example"], &["/"]),
            route(5, &["*.b.example"], &["/b/"]),
            route(6, &["a.example"], &["/v1"]),
        ])
        .unwrap();
        for (host, path, expected) in [
            ("a.example", "/v1", 1),
            ("A.Example:8000", "/v1/x", 1),
            ("a.example.", "/deep/er/x", 1),
            ("a.example", "/v1/exact", 2),
            ("a.example", "/v1/items", 3),
            ("a.example", "/v10", 4),
            ("a.example", "/deep", 4),
            ("x.b.example", "/b/c", 5),
            ("x.b.example", "/b", 4),
            ("b.example", "/b/c", 4),
            ("example", "/", 0),
            ("[::1]:80", "/", 0),
            ("", "/x", 0),
            ("", "*", 0),
        ] {
            assert_eq!(
                table.find(host.as_bytes(), path.as_bytes()),
                Some(expected),
                "{host}{path}"
            );
        }
        let narrow = RouteTable::new(&[route(1, &[], &["/public"])]).unwrap();
        assert_eq!(narrow.find(b"a", b"/admin"), None);
    }

    #[test]
    fn a_path_cannot_be_disguised() {
        let table =
            RouteTable::new(&[route(1, &[], &["/public"]), route(2, &[], &["/admin"])]).unwrap();
        for (path, expected) in [
            ("/public/../admin", Some(2)),
            ("/public/%2e%2e/admin", Some(2)),
            ("/public/%2E./admin/x", Some(2)),
            ("/%61dmin", Some(2)),
            ("/./admin", Some(2)),
            ("/public/..", None),
            ("/..", None),
            ("/../admin", None),
            ("/public/%2fadmin", Some(1)),
            ("/public/%", Some(1)),
            ("/public/%zz", Some(1)),
        ] {
            assert_eq!(table.find(b"a", path.as_bytes()), expected, "{path}");
        }
    }
}
