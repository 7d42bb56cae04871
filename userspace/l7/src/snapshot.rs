//! What requests are served by: an immutable picture of the configuration, swapped whole.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_balance::{BackendId, Upstream};
use weir_model::{Config, Limits, ServiceTimeouts, Timeouts};

use crate::http1::request::RequestHead;
use crate::refusal::Refusal;
use crate::route::RouteTable;

/// The configuration as the reactors use it.
#[derive(Debug, Default)]
pub struct Snapshot {
    routes: RouteTable,
    services: Vec<Service>,
    listeners: Vec<ListenerPolicy>,
}

/// Where a request goes, and how long that may take.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) timeouts: ServiceTimeouts,
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
    /// The picture of `config`, whose upstreams were built in their order.
    ///
    /// # Errors
    /// A regular expression does not compile, which a configuration rules out.
    pub fn new(config: &Config, upstreams: &[Arc<Upstream>]) -> Result<Self, regex::Error> {
        let services = config.services.iter().filter_map(|service| {
            let upstream = Arc::clone(upstreams.get(service.upstream)?);
            Some(Service { upstream, timeouts: service.timeouts })
        });
        let listeners = config.listeners.iter().map(|listener| ListenerPolicy {
            address: listener.address,
            limits: listener.limits,
            timeouts: listener.timeouts,
        });
        Ok(Self {
            routes: RouteTable::new(&config.routes)?,
            services: services.collect(),
            listeners: listeners.collect(),
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

    /// What the listener at that configured address allows; `None` if there is none any more.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<&ListenerPolicy> {
        self.listeners.iter().find(|listener| listener.address == address)
    }

    /// Whether any upstream has that backend.
    pub(crate) fn knows(&self, backend: BackendId) -> bool {
        let mut upstreams = self.services.iter().map(|service| &service.upstream);
        upstreams.any(|upstream| upstream.backends().iter().any(|known| known.id() == backend))
    }
}
