//! Why a request goes where it goes: what `weir route explain` prints.

use std::net::IpAddr;

use weir_model::{Limits, Route};

use super::{Asked, Matched, RouteTable, normal_path};
use crate::http1::request::RequestHead;
use crate::refusal::Refusal;

/// A request that nobody has sent.
#[derive(Clone, Debug)]
pub struct Question {
    /// Method, target and fields, as HTTP/1.1 writes them, with the empty line.
    pub head: String,
    /// Where it would come from.
    pub source: IpAddr,
    /// What would be asked for in the TLS handshake.
    pub server_name: Option<String>,
}

/// What becomes of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The routes that were asked, in their order, by index: why each was passed over, and nothing for
    /// the one that serves it.
    pub asked: Vec<(usize, Option<String>)>,
    /// How the path matched, if there is a route.
    pub matched: Option<&'static str>,
}

impl RouteTable {
    /// Asks as a request would.
    ///
    /// # Errors
    /// The request would be refused before it is routed; says why.
    pub fn explain(
        &self,
        question: &Question,
        routes: &[Route],
    ) -> Result<Explained, &'static str> {
        let mut request = RequestHead::default();
        let head = question.head.as_bytes();
        let limits = Limits { headers: Limits::HEADERS_MAX, ..Limits::default() };
        request.parse(head, &limits).map_err(Refusal::message)?;
        let asked = Asked {
            request: &request,
            head,
            source: question.source,
            server_name: question.server_name.as_deref(),
        };
        let mut seen = Vec::new();
        let found = self.find_with(&asked, |route| {
            let conditions = self.conditions.get(route);
            let why = conditions.and_then(|conditions| conditions.first_that_fails(&asked));
            let holds = why.is_none();
            seen.push((route, why));
            holds
        });
        let matched = found.map(|found| match found.matched {
            Matched::Whole if is_prefix(routes, found.route, &asked) => "prefix",
            Matched::Whole => "exact path",
            Matched::Prefix(_) => "prefix",
            Matched::Regex(_) => "regular expression",
        });
        Ok(Explained { asked: seen, matched })
    }
}

fn is_prefix(routes: &[Route], route: usize, asked: &Asked<'_>) -> bool {
    let path = str::from_utf8(asked.path()).ok().and_then(normal_path).unwrap_or_default();
    let exact = weir_model::PathPattern::Exact(path.into_owned());
    routes.get(route).is_some_and(|route| !route.paths.contains(&exact))
}
