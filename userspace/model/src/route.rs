//! Routes: which requests they are for, and what becomes of those.

use crate::Cidr;

/// One of `routes:`: a request that matches all of it is dealt with as `action` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Unique among routes.
    pub name: String,
    /// Any of these hosts; empty is every host.
    pub hosts: Vec<HostPattern>,
    /// Any of these paths; empty is every path.
    pub paths: Vec<PathPattern>,
    /// What else must hold of a request.
    pub conditions: Conditions,
    /// What becomes of it.
    pub action: Action,
    /// How it is changed on its way to a service.
    pub rewrite: Rewrite,
    /// What becomes of the fields of the request's head.
    pub request_headers: HeaderEdits,
    /// What becomes of the fields of the answer's head.
    pub response_headers: HeaderEdits,
    /// Who gets a copy.
    pub mirror: Option<Mirror>,
    /// Which answers are compressed on their way to the client.
    pub compress: Option<Compress>,
}

impl Route {
    /// A route for every request to a service.
    #[must_use]
    pub fn new(name: impl Into<String>, service: usize) -> Self {
        Self {
            name: name.into(),
            hosts: Vec::new(),
            paths: Vec::new(),
            conditions: Conditions::default(),
            action: Action::Forward(Split { on: SplitOn::Random, parts: vec![(service, 1)] }),
            rewrite: Rewrite::default(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            mirror: None,
            compress: None,
        }
    }
}

impl Route {
    /// Whether it asks nothing of a request, so that it may lead connections whose bytes are not read.
    #[must_use]
    pub fn is_passthrough(&self) -> bool {
        let Conditions { methods, headers, query, cookies, .. } = &self.conditions;
        self.hosts.is_empty()
            && self.paths.is_empty()
            && methods.is_empty()
            && headers.is_empty()
            && query.is_empty()
            && cookies.is_empty()
            && matches!(self.action, Action::Forward(_))
    }
}

/// What must hold of a request besides host and path; all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Any of these methods; empty is every method.
    pub methods: Vec<String>,
    /// Header fields, by name in lower case.
    pub headers: Vec<(String, ValuePattern)>,
    /// Parameters of the query.
    pub query: Vec<(String, ValuePattern)>,
    /// Cookies.
    pub cookies: Vec<(String, ValuePattern)>,
    /// The client's address is in any of these; empty is everywhere.
    pub sources: Vec<Cidr>,
    /// Any of these names was asked for in the TLS handshake; empty is whatever.
    pub snis: Vec<HostPattern>,
    /// Only so large a share of clients.
    pub share: Option<Share>,
}

impl Conditions {
    /// How many kinds of them there are: of two routes with the same host and path, the one with more
    /// is asked first.
    #[must_use]
    pub fn count(&self) -> usize {
        let lists = [
            !self.methods.is_empty(),
            !self.sources.is_empty(),
            !self.snis.is_empty(),
            self.share.is_some(),
        ];
        lists.into_iter().filter(|&is_there| is_there).count()
            + self.headers.len()
            + self.query.len()
            + self.cookies.len()
    }
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValuePattern {
    /// This very text.
    Exact(String),
    /// `~ regex`: a regular expression that is known to compile.
    Regex(String),
    /// `*`: there is one.
    Present,
    /// `!`: there is none.
    Absent,
}

/// A share of clients, always the same ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// In hundredths of a percent, 1 to 10,000.
    pub basis_points: u16,
    /// What tells clients apart.
    pub on: SplitOn,
}

/// What decides which of several a client gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SplitOn {
    /// Chance, with every request.
    #[default]
    Random,
    /// The client's address.
    Source,
    /// The value of a header, by its name in lower case; chance where there is none.
    Header(String),
    /// The value of a cookie; chance where there is none.
    Cookie(String),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to a service.
    Forward(Split),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// We answer ourselves.
    Respond(Respond),
}

/// Services by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What decides.
    pub on: SplitOn,
    /// Indices into `Config::services`, each with its weight; never empty, not all weights 0.
    pub parts: Vec<(usize, u16)>,
}

/// Where a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The new address; `{scheme}`, `{host}`, `{path}` and `{query}` (with its `?`) stand for the
    /// request's.
    pub to: String,
}

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Its body.
    pub body: String,
    /// Its media type.
    pub content_type: String,
}

/// How a request is changed on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// What matched of the path is left out.
    pub strip_path: bool,
    /// What matched of the path is replaced by this; of a regular expression with `$1` for its groups.
    pub path: Option<String>,
    /// The host that the service is asked for.
    pub host: Option<String>,
}

impl Rewrite {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of header fields, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names in lower case that are left out.
    pub remove: Vec<String>,
    /// Fields that take the place of those of the same name.
    pub set: Vec<(String, String)>,
    /// Fields that come on top.
    pub add: Vec<(String, String)>,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Who gets a copy of requests; nobody waits for its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Index into `Config::services`.
    pub service: usize,
    /// Of so many requests, in hundredths of a percent, 1 to 10,000.
    pub basis_points: u16,
}

/// Which answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// In the order of preference; what the client takes decides.
    pub encodings: Vec<Encoding>,
    /// Media types; `text/*` is every text.
    pub types: Vec<String>,
    /// Shorter ones stay as they are, where their length is known.
    pub min_size: u64,
}

/// A coding that answers are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// zstd
    Zstd,
    /// brotli
    Brotli,
    /// gzip
    Gzip,
}

impl Encoding {
    /// Every encoding with the word that HTTP has for it.
    pub const NAMES: [(&'static str, Self); 3] =
        [("zstd", Self::Zstd), ("br", Self::Brotli), ("gzip", Self::Gzip)];

    /// The word that HTTP has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Which hosts a route serves. Names are lower case, without port and without trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `api.example.com`
    Exact(String),
    /// `*.example.com`: holds `.example.com`; one label or more stands before it.
    Suffix(String),
}

/// Which paths a route serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// `= /exact`: this path alone.
    Exact(String),
    /// `/v1`: this path and all below it (`/v1`, `/v1/x`, not `/v10`); `/v1/` all below it.
    Prefix(String),
    /// `~ ^/v[0-9]+/items$`: a regular expression that is known to compile.
    Regex(String),
}
