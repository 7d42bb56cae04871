//! What requests are served by: an immutable picture of the configuration, swapped whole.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use weir_balance::{RetryBudget, Upstream};
use weir_model::{
    Action, Config, HostPattern, Limits, ProxyVersion, Retries, Route, Serves, ServiceProtocol,
    ServiceTimeouts, Split, Timeouts,
};
use weir_net::{Alpn, ClientConfig, ServerConfig, Tickets, TlsError};

use crate::http1::request::RequestHead;
use crate::pool::PoolKey;
use crate::refusal::Refusal;
use crate::route::{Asked, Matched, RouteTable};

/// The configuration as the reactors use it.
#[derive(Debug, Default)]
pub struct Snapshot {
    table: RouteTable,
    routes: Vec<Route>,
    services: Vec<Service>,
    listeners: Vec<Serving>,
}

/// Where a request goes, how it gets there, and how long that may take.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) protocol: ServiceProtocol,
    pub(crate) tls: Option<ClientConfig>,
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    pub(crate) timeouts: ServiceTimeouts,
    pub(crate) retries: Retries,
    pub(crate) budget: RetryBudget,
    pub(crate) hedge: Option<Duration>,
    pub(crate) buffer_request: Option<u64>,
    /// Connections of services that differ here are not each other's.
    pub(crate) transport: TransportId,
}

/// A route that a request matches, and what of its path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed<'a> {
    pub(crate) route: &'a Route,
    pub(crate) matched: Matched<'a>,
}

/// How backends are spoken to: the same over reloads as long as the settings are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TransportId(pub(crate) u64);

/// Why a configuration cannot be served. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A regular expression does not compile, which a configuration rules out.
    #[error("{0}")]
    Regex(#[from] regex::Error),
    /// A certificate, key or authority.
    #[error("{what} {name}")]
    Tls {
        /// `listener` or `service`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong.
        source: TlsError,
    },
}

/// How a listener serves its clients.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) policy: ListenerPolicy,
    pub(crate) serves: Serves,
    pub(crate) tls: Option<ServerConfig>,
    pub(crate) proxy_protocol: bool,
}

impl Serving {
    /// Whether clients speak first: in some protocols over plain TCP it is the server.
    pub(crate) fn is_client_first(&self) -> bool {
        self.tls.is_some() || self.proxy_protocol || !matches!(self.serves, Serves::Tcp { .. })
    }
}

/// What a listener allows its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerPolicy {
    /// As configured; what identifies a listener over reloads.
    pub(crate) address: SocketAddr,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
}

impl Snapshot {
    /// The picture of `config`, whose upstreams were built in their order; reads certificates.
    ///
    /// # Errors
    /// A certificate, key or authority cannot be used.
    pub fn new(
        config: &Config,
        upstreams: &[Arc<Upstream>],
        tickets: &Tickets,
    ) -> Result<Self, SnapshotError> {
        // There is nothing that could stand in for what cannot be used.
        Self::default().renewed(config, upstreams, tickets).map(|(snapshot, _)| snapshot)
    }

    /// The same for a configuration that is in force, with what its files hold now. Where something cannot
    /// be used, what was read before stands in for it; says why.
    ///
    /// # Errors
    /// There was nothing before.
    pub fn renewed(
        &self,
        config: &Config,
        upstreams: &[Arc<Upstream>],
        tickets: &Tickets,
    ) -> Result<(Self, Vec<SnapshotError>), SnapshotError> {
        let mut unusable = Vec::new();
        let mut services = Vec::new();
        for (index, service) in config.services.iter().enumerate() {
            let Some(upstream) = upstreams.get(service.upstream) else { continue };
            let before = self.services.get(index).map(|before| before.tls.clone());
            let tls = stand_in(client_tls(service), before, &mut unusable)?;
            services.push(Service::new(service, Arc::clone(upstream), tls));
        }
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            let before = self.listener(listener.address).map(|before| before.tls.clone());
            let tls = stand_in(server_tls(listener, tickets), before, &mut unusable)?;
            listeners.push(serving(listener, tls));
        }
        let table = RouteTable::new(&config.routes)?;
        Ok((Self { table, routes: config.routes.clone(), services, listeners }, unusable))
    }

    /// The route that a request matches.
    pub(crate) fn route(&self, asked: &Asked<'_>) -> Result<Routed<'_>, Refusal> {
        let found = self.table.find(asked).ok_or(Refusal::NoRoute)?;
        let route = self.routes.get(found.route).ok_or(Refusal::NoRoute)?;
        Ok(Routed { route, matched: found.matched })
    }

    /// The service that a route leads to; `random` decides where nothing of the client does.
    pub(crate) fn service(
        &self,
        route: &Route,
        asked: &Asked<'_>,
        random: u64,
    ) -> Result<&Service, Refusal> {
        let Action::Forward(split) = &route.action else { return Err(Refusal::NoRoute) };
        self.service_at(part_of(split, asked, random)).ok_or(Refusal::NoRoute)
    }

    /// The service that a connection of TLS goes to by the name that it asks for: the very name, then
    /// the longest `*.`, then routes for any name; of those, the first whose sources and share hold.
    pub(crate) fn passthrough(
        &self,
        name: Option<&str>,
        source: IpAddr,
        random: u64,
    ) -> Option<&Service> {
        let request = RequestHead::default();
        let asked = Asked { request: &request, head: b"", source, server_name: name };
        let holds = |route: &&Route| self.table.holds_passthrough(&self.routes, route, &asked);
        let routes = self.routes.iter().filter(holds);
        let specific = |route: &&Route| {
            let fits = |pattern: &HostPattern| match (pattern, name) {
                (HostPattern::Exact(exact), Some(name)) if exact == name => usize::MAX,
                (HostPattern::Suffix(suffix), Some(name)) if name.ends_with(suffix.as_str()) => {
                    suffix.len()
                }
                _ => 0,
            };
            route.conditions.snis.iter().map(fits).max().unwrap_or(0)
        };
        // Of equals the last one is taken, so the first of the file must come last.
        let route = routes.rev().max_by_key(specific)?;
        self.service(route, &asked, random).ok()
    }

    /// The service of that index in the configuration.
    pub(crate) fn service_at(&self, index: usize) -> Option<&Service> {
        self.services.get(index)
    }

    /// What the listener at that configured address does; `None` if there is none any more.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<&Serving> {
        self.listeners.iter().find(|listener| listener.policy.address == address)
    }

    /// Upstreams whose connections are limited, and waited for.
    pub(crate) fn wanted_upstreams(&self) -> impl Iterator<Item = &Upstream> {
        let upstreams = self.services.iter().map(|service| &*service.upstream);
        let is_limited = |it: &&Upstream| it.policy().limits.connections.is_some();
        upstreams.filter(is_limited).filter(|upstream| upstream.pending() > 0)
    }

    /// Whether any service speaks so to that backend.
    pub(crate) fn knows(&self, (backend, transport): PoolKey) -> bool {
        let mut alike = self.services.iter().filter(|service| service.transport == transport);
        alike.any(|it| it.upstream.backends().iter().any(|known| known.id() == backend))
    }
}

/// The index of the service that a request gets: always the same one for the same client.
fn part_of(split: &Split, asked: &Asked<'_>, random: u64) -> usize {
    let [(only, _)] = split.parts.as_slice() else {
        let total: u64 = split.parts.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let draw = asked.draw(&split.on).map(|draw| weir_balance::hash(&draw.to_le_bytes()));
        let mut place = draw.unwrap_or(random) % total.max(1);
        for (service, weight) in &split.parts {
            match place.checked_sub(u64::from(*weight)) {
                Some(left) => place = left,
                None => return *service,
            }
        }
        return split.parts.last().map_or(0, |(service, _)| *service);
    };
    *only
}

/// What was read, or what was before.
fn stand_in<T>(
    read: Result<T, SnapshotError>,
    before: Option<T>,
    unusable: &mut Vec<SnapshotError>,
) -> Result<T, SnapshotError> {
    match (read, before) {
        (Err(error), Some(before)) => {
            unusable.push(error);
            Ok(before)
        }
        (read, _) => read,
    }
}

fn client_tls(service: &weir_model::Service) -> Result<Option<ClientConfig>, SnapshotError> {
    let alpn = match service.protocol {
        ServiceProtocol::Http1 => Alpn::Http1,
        ServiceProtocol::Http2 => Alpn::Http2,
    };
    let tls = service.tls.as_ref().map(|tls| {
        ClientConfig::load(tls, &[alpn]).map_err(|source| SnapshotError::Tls {
            what: "service",
            name: service.name.clone(),
            source,
        })
    });
    tls.transpose()
}

impl Service {
    fn new(
        service: &weir_model::Service,
        upstream: Arc<Upstream>,
        tls: Option<ClientConfig>,
    ) -> Self {
        let mut transport = DefaultHasher::new();
        let tls_settings = tls.as_ref().map(ClientConfig::settings);
        (service.protocol, service.proxy_protocol, tls_settings).hash(&mut transport);
        Self {
            upstream,
            protocol: service.protocol,
            tls,
            proxy_protocol: service.proxy_protocol,
            timeouts: service.timeouts,
            retries: service.retries.clone(),
            budget: RetryBudget::new(service.retries.budget),
            hedge: service.hedge,
            buffer_request: service.buffer_request,
            transport: TransportId(transport.finish()),
        }
    }
}

impl Service {
    /// How long one attempt may take from the request to the head of its answer.
    pub(crate) fn head_timeout(&self) -> Duration {
        let whole = self.timeouts.response;
        self.retries.per_try.map_or(whole, |per_try| per_try.min(whole))
    }
}

fn server_tls(
    listener: &weir_model::Listener,
    tickets: &Tickets,
) -> Result<Option<ServerConfig>, SnapshotError> {
    let alpn = match listener.serves {
        Serves::Http { http1: true, http2: true } => &[Alpn::Http2, Alpn::Http1][..],
        Serves::Http { http2: true, .. } => &[Alpn::Http2],
        Serves::Http { .. } => &[Alpn::Http1],
        Serves::Tcp { .. } | Serves::TlsPassthrough => &[],
    };
    let tls = listener.tls.as_ref().map(|tls| {
        ServerConfig::load(tls, alpn, tickets).map_err(|source| SnapshotError::Tls {
            what: "listener",
            name: listener.name.clone(),
            source,
        })
    });
    tls.transpose()
}

fn serving(listener: &weir_model::Listener, tls: Option<ServerConfig>) -> Serving {
    let policy = ListenerPolicy {
        address: listener.address,
        limits: listener.limits,
        timeouts: listener.timeouts,
    };
    Serving { policy, serves: listener.serves, tls, proxy_protocol: listener.proxy_protocol }
}
