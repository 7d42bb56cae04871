//! What must hold of a request besides host and path.

use std::net::IpAddr;

use regex::bytes::Regex;
use weir_model::{Cidr, Conditions, HostPattern, Share, ValuePattern};

use super::asked::Asked;

/// Conditions that are ready to be asked; all of them must hold.
#[derive(Debug)]
pub(crate) struct Compiled {
    methods: Vec<String>,
    headers: Vec<(String, Pattern)>,
    query: Vec<(String, Pattern)>,
    cookies: Vec<(String, Pattern)>,
    sources: Vec<Cidr>,
    snis: Vec<HostPattern>,
    share: Option<(Share, u64)>,
    /// There are none.
    is_nothing: bool,
}

#[derive(Debug)]
enum Pattern {
    Exact(String),
    Regex(Regex),
    Present,
    Absent,
}

impl Compiled {
    /// `route` is what its share is drawn by, so that two routes do not share the same clients out.
    pub(crate) fn new(route: &str, conditions: &Conditions) -> Result<Self, regex::Error> {
        let Conditions { methods, headers, query, cookies, sources, snis, share } =
            conditions.clone();
        let salt = weir_balance::hash(route.as_bytes());
        Ok(Self {
            methods,
            headers: patterns(headers)?,
            query: patterns(query)?,
            cookies: patterns(cookies)?,
            sources,
            snis,
            share: share.map(|share| (share, salt)),
            is_nothing: conditions.count() == 0,
        })
    }

    pub(crate) fn hold(&self, asked: &Asked<'_>) -> bool {
        self.is_nothing || self.first_that_fails(asked).is_none()
    }

    /// The first that does not hold, in words.
    pub(crate) fn first_that_fails(&self, asked: &Asked<'_>) -> Option<String> {
        let method = asked.method();
        if !self.methods.is_empty() && !self.methods.iter().any(|it| it.as_bytes() == method) {
            return Some(format!("methods: {} is none of them", String::from_utf8_lossy(method)));
        }
        if !is_from(&self.sources, asked.source) {
            return Some(format!("sources: {} is in none of them", asked.source));
        }
        if !self.snis.is_empty() && !asked.server_name.is_some_and(|name| is_any(&self.snis, name))
        {
            return Some("snis: none of them was asked for".to_owned());
        }
        let fails = |(name, pattern): &&(String, Pattern)| !pattern.holds(asked.header(name));
        if let Some((name, _)) = self.headers.iter().find(fails) {
            return Some(format!("headers: {name}"));
        }
        let fails = |(name, pattern): &&(String, Pattern)| !pattern.holds(asked.parameter(name));
        if let Some((name, _)) = self.query.iter().find(fails) {
            return Some(format!("query: {name}"));
        }
        let fails = |(name, pattern): &&(String, Pattern)| !pattern.holds(asked.cookie(name));
        if let Some((name, _)) = self.cookies.iter().find(fails) {
            return Some(format!("cookies: {name}"));
        }
        let (share, salt) = self.share.as_ref()?;
        let is_in = asked.draw(&share.on).is_some_and(|draw| in_share(draw ^ salt, share));
        (!is_in).then(|| "share: the client is not in it".to_owned())
    }
}

/// Who has nothing that is to tell him apart is in no share: he would come and go.
fn in_share(draw: u64, share: &Share) -> bool {
    weir_balance::hash(&draw.to_le_bytes()) % 10_000 < u64::from(share.basis_points)
}

fn is_from(sources: &[Cidr], address: IpAddr) -> bool {
    sources.is_empty() || sources.iter().any(|cidr| cidr.contains(address))
}

fn is_any(patterns: &[HostPattern], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern {
        HostPattern::Exact(exact) => exact == name,
        HostPattern::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
    })
}

impl Pattern {
    fn holds<V: AsRef<[u8]>>(&self, mut values: impl Iterator<Item = V>) -> bool {
        match self {
            Self::Exact(exact) => values.any(|value| value.as_ref() == exact.as_bytes()),
            Self::Regex(regex) => values.any(|value| regex.is_match(value.as_ref())),
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
        }
    }
}

fn patterns(given: Vec<(String, ValuePattern)>) -> Result<Vec<(String, Pattern)>, regex::Error> {
    let compile = |(name, pattern)| {
        let pattern = match pattern {
            ValuePattern::Exact(text) => Pattern::Exact(text),
            ValuePattern::Regex(text) => Pattern::Regex(Regex::new(&text)?),
            ValuePattern::Present => Pattern::Present,
            ValuePattern::Absent => Pattern::Absent,
        };
        Ok((name, pattern))
    };
    given.into_iter().map(compile).collect()
}
