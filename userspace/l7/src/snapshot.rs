//! What requests are served by: an immutable picture of the configuration, swapped whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_balance::{BackendId, Upstream};
use weir_model::{
    Config, Limits, ProxyVersion, Serves, ServiceProtocol, ServiceTimeouts, Timeouts,
};
use weir_net::{Alpn, ClientConfig, ServerConfig, Tickets, TlsError};

use crate::http1::request::RequestHead;
use crate::refusal::Refusal;
use crate::route::RouteTable;

/// The configuration as the reactors use it.
#[derive(Debug, Default)]
pub struct Snapshot {
    routes: RouteTable,
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
    /// Connections of services that differ here are not each other's.
    pub(crate) transport: TransportId,
}

/// Tells apart how backends are spoken to, for the life of the process.
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
        let services = config.services.iter().filter_map(|service| {
            let upstream = Arc::clone(upstreams.get(service.upstream)?);
            Some(Service::new(service, upstream))
        });
        let listeners = config.listeners.iter().map(|listener| serving(listener, tickets));
        Ok(Self {
            routes: RouteTable::new(&config.routes)?,
            services: services.collect::<Result<_, _>>()?,
            listeners: listeners.collect::<Result<_, _>>()?,
        })
    }

    /// The service of the route that matches.
    pub(crate) fn service(&self, request: &RequestHead, head: &[u8]) -> Result<&Service, Refusal> {
        let host = request.host.map_or(&b""[..], |host| host.get(head));
        let path = match request.path.get(head) {
            b"" => b"/",
            path => path,
        };
        let service = self.routes.find(host, path).ok_or(Refusal::NoRoute)?;
        self.services.get(service).ok_or(Refusal::NoRoute)
    }

    /// What the listener at that configured address does; `None` if there is none any more.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<&Serving> {
        self.listeners.iter().find(|listener| listener.policy.address == address)
    }

    /// Whether any upstream has that backend.
    pub(crate) fn knows(&self, backend: BackendId) -> bool {
        let mut upstreams = self.services.iter().map(|service| &service.upstream);
        upstreams.any(|upstream| upstream.backends().iter().any(|known| known.id() == backend))
    }
}

impl Service {
    fn new(service: &weir_model::Service, upstream: Arc<Upstream>) -> Result<Self, SnapshotError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
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
        let is_plain = service.tls.is_none() && service.proxy_protocol.is_none();
        let transport = match (is_plain, service.protocol) {
            // Alike for every service, also over reloads: pooled connections live on.
            (true, ServiceProtocol::Http1) => TransportId::PLAIN,
            (true, ServiceProtocol::Http2) => TransportId::PLAIN_HTTP2,
            (false, _) => TransportId(NEXT.fetch_add(1, Ordering::Relaxed) + TransportId::FIRST),
        };
        Ok(Self {
            upstream,
            protocol: service.protocol,
            tls: tls.transpose()?,
            proxy_protocol: service.proxy_protocol,
            timeouts: service.timeouts,
            transport,
        })
    }
}

impl TransportId {
    const PLAIN: Self = Self(0);
    const PLAIN_HTTP2: Self = Self(1);
    const FIRST: u64 = 2;
}

fn serving(listener: &weir_model::Listener, tickets: &Tickets) -> Result<Serving, SnapshotError> {
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
    let policy = ListenerPolicy {
        address: listener.address,
        limits: listener.limits,
        timeouts: listener.timeouts,
    };
    Ok(Serving {
        policy,
        serves: listener.serves,
        tls: tls.transpose()?,
        proxy_protocol: listener.proxy_protocol,
    })
}
