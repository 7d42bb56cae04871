//! Which route serves a request: the most specific match, by hash look-ups.
//!
//! Hosts are tried from the most specific: exact, then the longest `*.` suffix, then routes without
//! hosts. Within a host, paths: exact, then regular expressions in the order of the file, then the
//! longest prefix. Of routes with the same host and path (the same expression), those with more
//! conditions (methods, headers, query, cookies, sources, snis, share) come first, then the order of the
//! file. Where nothing of a path holds, the next path is tried, and where nothing of a host does, the
//! next host.

mod asked;
mod conditions;
mod explain;
mod path;

use std::cmp::Reverse;
use std::collections::HashMap;

use regex::Regex;
use weir_model::{HostPattern, PathPattern, Route};

pub(crate) use asked::{Asked, hash_address};
use conditions::Compiled;
pub use explain::{Explained, Question};
pub(crate) use path::normal_path;

/// All routes of a configuration, ready to be asked.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, Paths>,
    /// By what follows the `*`, with its leading dot.
    suffixes: HashMap<String, Paths>,
    any: Paths,
    /// By index of the route.
    conditions: Vec<Compiled>,
}

/// Indices of routes; the first one that holds is it.
type Candidates = Vec<usize>;

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Candidates>,
    regexes: Vec<(Regex, usize)>,
    /// Without a trailing slash: `/v1` is asked for `/v1` and whatever is below.
    prefixes: HashMap<String, Candidates>,
    /// With a trailing slash, asked for what is below alone.
    below: HashMap<String, Candidates>,
}

/// A route that holds, and what of the path it goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    /// Index into `Config::routes`.
    pub(crate) route: usize,
    pub(crate) matched: Matched<'a>,
}

/// What of a path matched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Matched<'a> {
    /// All of it.
    Whole,
    /// So many bytes at its start.
    Prefix(usize),
    Regex(&'a Regex),
}

impl RouteTable {
    /// The table of these routes.
    ///
    /// # Errors
    /// A regular expression does not compile, which a configuration rules out.
    pub fn new(routes: &[Route]) -> Result<Self, regex::Error> {
        let mut table = Self::default();
        for (index, route) in routes.iter().enumerate() {
            table.conditions.push(Compiled::new(&route.name, &route.conditions)?);
            if route.hosts.is_empty() {
                table.any.insert(index, route)?;
            }
            for host in &route.hosts {
                let paths = match host {
                    HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default(),
                    HostPattern::Suffix(name) => table.suffixes.entry(name.clone()).or_default(),
                };
                paths.insert(index, route)?;
            }
        }
        let hosts = table.exact.values_mut().chain(table.suffixes.values_mut());
        hosts.chain([&mut table.any]).for_each(|paths| paths.sort(routes));
        Ok(table)
    }

    /// The route for a request.
    pub(crate) fn find(&self, asked: &Asked<'_>) -> Option<Found<'_>> {
        self.find_with(asked, |route| self.holds(route, asked))
    }

    /// Whether a route is for connections that are passed on by name: nothing of a request is asked.
    pub(crate) fn holds_passthrough(
        &self,
        routes: &[Route],
        route: &Route,
        asked: &Asked<'_>,
    ) -> bool {
        let index = routes.iter().position(|known| known.name == route.name);
        route.is_passthrough() && index.is_some_and(|index| self.holds(index, asked))
    }

    fn holds(&self, route: usize, asked: &Asked<'_>) -> bool {
        self.conditions.get(route).is_some_and(|conditions| conditions.hold(asked))
    }

    /// The first route by host and path that `holds`.
    fn find_with(
        &self,
        asked: &Asked<'_>,
        mut holds: impl FnMut(usize) -> bool,
    ) -> Option<Found<'_>> {
        let path = std::str::from_utf8(asked.path()).ok()?;
        let path = normal_path(path)?;
        if !(self.exact.is_empty() && self.suffixes.is_empty()) {
            let host = path::host_name(asked.host())?;
            let of_host = self.exact.get(&*host);
            if let Some(found) = of_host.and_then(|paths| paths.find(&path, &mut holds)) {
                return Some(found);
            }
            let dots = host.match_indices('.').map(|(dot, _)| dot).filter(|&dot| dot > 0);
            for dot in dots {
                let of_suffix = host.get(dot..).and_then(|suffix| self.suffixes.get(suffix));
                if let Some(found) = of_suffix.and_then(|paths| paths.find(&path, &mut holds)) {
                    return Some(found);
                }
            }
        }
        self.any.find(&path, &mut holds)
    }
}

impl Paths {
    fn insert(&mut self, index: usize, route: &Route) -> Result<(), regex::Error> {
        if route.paths.is_empty() {
            self.below.entry("/".to_owned()).or_default().push(index);
        }
        for path in &route.paths {
            match path {
                PathPattern::Exact(path) => {
                    self.exact.entry(path.clone()).or_default().push(index);
                }
                PathPattern::Regex(source) => self.regexes.push((Regex::new(source)?, index)),
                PathPattern::Prefix(path) if path.ends_with('/') => {
                    self.below.entry(path.clone()).or_default().push(index);
                }
                PathPattern::Prefix(path) => {
                    self.prefixes.entry(path.clone()).or_default().push(index);
                }
            }
        }
        Ok(())
    }

    fn sort(&mut self, routes: &[Route]) {
        let count = |index: usize| routes.get(index).map_or(0, |route| route.conditions.count());
        let lists = self.exact.values_mut().chain(self.prefixes.values_mut());
        for candidates in lists.chain(self.below.values_mut()) {
            candidates.sort_by_key(|&index| (Reverse(count(index)), index));
        }
        let mut places = HashMap::new();
        for (place, (regex, _)) in self.regexes.iter().enumerate() {
            places.entry(regex.as_str().to_owned()).or_insert(place);
        }
        // Those of the same path stand where the first of them does.
        let place = |regex: &Regex| places.get(regex.as_str()).copied();
        self.regexes.sort_by_key(|(regex, index)| (place(regex), Reverse(count(*index)), *index));
    }

    fn find(&self, path: &str, holds: &mut impl FnMut(usize) -> bool) -> Option<Found<'_>> {
        let mut first = |candidates: Option<&Candidates>| {
            candidates?.iter().copied().find(|&route| holds(route))
        };
        if let Some(route) = first(self.exact.get(path)) {
            return Some(Found { route, matched: Matched::Whole });
        }
        for (regex, route) in &self.regexes {
            if regex.is_match(path) && holds(*route) {
                return Some(Found { route: *route, matched: Matched::Regex(regex) });
            }
        }
        self.prefix(path, holds)
    }

    /// Longest first: the path itself, then what stands before each slash, from the right. The
    /// target `*` of OPTIONS is below `/`.
    fn prefix(&self, path: &str, holds: &mut impl FnMut(usize) -> bool) -> Option<Found<'_>> {
        let mut first = |candidates: Option<&Candidates>| {
            candidates?.iter().copied().find(|&route| holds(route))
        };
        if let Some(route) = first(self.prefixes.get(path)) {
            return Some(Found { route, matched: Matched::Whole });
        }
        let root = || self.below.get("/");
        let only_root = self.prefixes.is_empty() && self.below.len() == 1 && root().is_some();
        if only_root || path == "*" {
            return first(root()).map(|route| Found { route, matched: Matched::Prefix(1) });
        }
        for (slash, _) in path.rmatch_indices('/') {
            let below = path.get(..=slash).and_then(|prefix| self.below.get(prefix));
            if let Some(route) = first(below) {
                return Some(Found { route, matched: Matched::Prefix(slash + 1) });
            }
            let prefix = path.get(..slash).and_then(|prefix| self.prefixes.get(prefix));
            if let Some(route) = first(prefix) {
                return Some(Found { route, matched: Matched::Prefix(slash) });
            }
        }
        None
    }
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
            hosts: hosts.iter().map(host).collect(),
            paths: paths.iter().map(path).collect(),
            ..Route::new(service.to_string(), service)
        }
    }

    /// The route of a request whose target and fields are these.
    fn find(table: &RouteTable, host: &str, target: &str, fields: &str) -> Option<usize> {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let host = if host.is_empty() { String::new() } else { format!("host: {host}\r\n") };
        let version = if host.is_empty() { "1.0" } else { "1.1" };
        let head = format!("{method} {target} HTTP/{version}\r\n{host}{fields}\r\n");
        let mut request = crate::http1::request::RequestHead::default();
        request.parse(head.as_bytes(), &weir_model::Limits::default()).unwrap();
        let asked = Asked {
            request: &request,
            head: head.as_bytes(),
            source: [192, 0, 2, 7].into(),
            server_name: Some("sni.example"),
        };
        table.find(&asked).map(|found| found.route)
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
            assert_eq!(find(&table, host, path, ""), Some(expected), "{host}{path}");
        }
        let narrow = RouteTable::new(&[route(0, &[], &["/public"])]).unwrap();
        assert_eq!(find(&narrow, "a", "/admin", ""), None);
    }

    #[test]
    fn a_path_cannot_be_disguised() {
        let table =
            RouteTable::new(&[route(0, &[], &["/public"]), route(1, &[], &["/admin"])]).unwrap();
        for (path, expected) in [
            ("/public/../admin", Some(1)),
            ("/public/%2e%2e/admin", Some(1)),
            ("/public/%2E./admin/x", Some(1)),
            ("/%61dmin", Some(1)),
            ("/./admin", Some(1)),
            ("/public/..", None),
            ("/..", None),
            ("/../admin", None),
            ("/public/%2fadmin", Some(0)),
            ("//admin", Some(1)),
            ("//admin/", Some(1)),
            ("/%2e//admin//x", Some(1)),
            ("/public//../admin", Some(1)),
            ("//public//", Some(0)),
            ("//", None),
            ("/public/%", Some(0)),
            ("/public/%zz", Some(0)),
        ] {
            assert_eq!(find(&table, "a", path, ""), expected, "{path}");
        }
    }

    #[test]
    fn more_conditions_come_first_and_what_fails_is_passed_over() {
        let with = |service, set: &dyn Fn(&mut weir_model::Conditions)| {
            let mut route = route(service, &[], &["/x"]);
            set(&mut route.conditions);
            route
        };
        let exact = |name: &str, value: &str| {
            (name.to_owned(), weir_model::ValuePattern::Exact(value.to_owned()))
        };
        let absent = |name: &str| (name.to_owned(), weir_model::ValuePattern::Absent);
        let table = RouteTable::new(&[
            route(0, &[], &["/x"]),
            with(1, &|it| it.headers.push(exact("x-version", "2"))),
            with(2, &|it| {
                it.headers.push(exact("x-version", "2"));
                it.query.push(exact("a b", "c d"));
            }),
            with(3, &|it| it.cookies.push(exact("group", "a"))),
            with(4, &|it| it.methods.push("POST".to_owned())),
            with(5, &|it| {
                it.snis.push(HostPattern::Exact("sni.example".to_owned()));
                it.sources.push("192.0.2.0/24".parse().unwrap());
                it.cookies.push(absent("session"));
                it.headers.push(exact("x-canary", "1"));
            }),
            route(6, &[], &["/"]),
        ])
        .unwrap();
        for (target, fields, expected) in [
            ("/x", "", 0),
            ("/x", "X-Version: 2\r\n", 1),
            ("/x?a+b=c%20d&z", "x-version: 2\r\n", 2),
            ("/x?a+b=c", "x-version: 2\r\n", 1),
            ("/x", "cookie: z; group=a\r\n", 3),
            ("/x", "x-canary: 1\r\n", 5),
            ("/x", "x-canary: 1\r\ncookie: session=1\r\n", 0),
            ("/y", "x-version: 2\r\n", 6),
        ] {
            assert_eq!(find(&table, "a", target, fields), Some(expected), "{target} {fields:?}");
        }
    }

    #[test]
    fn regular_expressions_keep_their_order_and_more_conditions_come_first_where_they_are_the_same()
    {
        let mut narrow = route(2, &[], &["~ ^/x"]);
        narrow.conditions.headers =
            vec![("x-canary".to_owned(), weir_model::ValuePattern::Present)];
        let first = route(0, &[], &["~ ^/x/first"]);
        let routes = [first, route(1, &[], &["~ ^/x"]), narrow, route(3, &[], &["~ ^/x/last"])];
        let table = RouteTable::new(&routes).unwrap();
        for (target, fields, expected) in [
            ("/x/first", "x-canary: 1\r\n", 0),
            ("/x/last", "", 1),
            ("/x/last", "x-canary: 1\r\n", 2),
        ] {
            assert_eq!(find(&table, "a", target, fields), Some(expected), "{target} {fields}");
        }
    }

    #[test]
    fn a_share_of_clients_is_that_large_and_always_the_same() {
        let mut canary = route(0, &[], &[]);
        canary.conditions.share = Some(weir_model::Share {
            basis_points: 1_000,
            on: weir_model::SplitOn::Cookie("id".to_owned()),
        });
        let table = RouteTable::new(&[canary, route(1, &[], &[])]).unwrap();
        let is_in = |client| find(&table, "a", "/", &format!("cookie: id={client}\r\n")) == Some(0);
        let inside: Vec<_> = (0..10_000).filter(|client| is_in(*client)).collect();
        assert!((900..1_100).contains(&inside.len()), "{}", inside.len());
        assert!(inside.iter().all(|client| is_in(*client)));
        assert_eq!(find(&table, "a", "/", ""), Some(1), "nobody without the cookie");
    }
}
