//! To which backend a request is sent, and whether it may be sent to another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::timeout;
use weir_balance::{Backend, BackendId, Choice, OpenRequest};
use weir_model::ServiceProtocol;
use weir_net::TlsStream;

use crate::pool::PoolKey;
use crate::reactor::Reactor;
use crate::refusal::Refusal;
use crate::snapshot::Service;
use crate::stream::Stream;

/// The attempts at one request. A backend that cannot be reached costs an attempt nothing: the next
/// one is tried until all were. One that dies before it answers is replaced once.
pub(crate) struct Attempts<'a> {
    service: &'a Service,
    unreachable: Vec<BackendId>,
    died: Option<BackendId>,
}

/// A connection to the backend that a request was given to.
pub(crate) struct BackendConnection {
    pub(crate) stream: Stream,
    /// Where it is kept for the next request.
    pub(crate) key: PoolKey,
    pub(crate) open: OpenRequest,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(service: &'a Service) -> Self {
        Self { service, unreachable: Vec::new(), died: None }
    }

    /// A connection from the pool, or a new one, to the backend whose turn it is.
    pub(crate) async fn connect(
        &mut self,
        reactor: &Reactor,
    ) -> Result<BackendConnection, Refusal> {
        let mut refusal = Refusal::NoBackend;
        loop {
            let backend = self.pick().ok_or(refusal)?;
            let open = backend.open_request();
            match self.open(reactor, backend).await {
                Ok(stream) => {
                    let key = (backend.id(), self.service.transport);
                    return Ok(BackendConnection { stream, key, open });
                }
                Err(why) => refusal = why,
            }
            backend.count_failure();
            self.unreachable.push(backend.id());
        }
    }

    async fn open(&self, reactor: &Reactor, backend: &Backend) -> Result<Stream, Refusal> {
        let service = self.service;
        let key = (backend.id(), service.transport);
        if let Some(stream) = reactor.pool.take(key) {
            return Ok(stream);
        }
        let connecting = connect(service, backend.address());
        let opened = timeout(service.timeouts.connect, async {
            match service.protocol {
                ServiceProtocol::Http1 => connecting.await,
                ServiceProtocol::Http2 => reactor.backends.stream(reactor, key, connecting).await,
            }
        });
        opened.await.unwrap_or(Err(Refusal::ConnectTimeout))
    }

    /// Whether there may be another attempt after `backend` died before it answered.
    pub(crate) fn may_replace(&mut self, backend: &Backend) -> bool {
        self.died.replace(backend.id()).is_none()
    }

    /// Another backend than the one that died where there is one: else it may only have closed an
    /// idle connection, and a new one will do.
    fn pick(&self) -> Option<&'a Arc<Backend>> {
        let upstream = &self.service.upstream;
        let Some(died) = self.died else { return upstream.pick(&choice(&self.unreachable)) };
        let mut avoided = self.unreachable.clone();
        avoided.push(died);
        upstream.pick(&choice(&avoided)).or_else(|| upstream.pick(&choice(&self.unreachable)))
    }
}

/// A new connection, with what a service puts around its bytes.
async fn connect(service: &Service, address: SocketAddr) -> Result<Stream, Refusal> {
    let socket = TcpStream::connect(address).await.map_err(|_| Refusal::ConnectFailed)?;
    // A request that is written in one piece must not wait for an acknowledgement.
    let _ = socket.set_nodelay(true);
    let Some(config) = &service.tls else { return Ok(socket.into()) };
    let tls = TlsStream::client(socket, config).map_err(|_| Refusal::ConnectFailed)?;
    match tls.handshake().await {
        Ok(()) => Ok(Stream::Tls(tls)),
        Err(error) => {
            tracing::warn!("TLS with backend {address}: {error}");
            Err(Refusal::BackendTls)
        }
    }
}

/// Any of those that were not tried.
fn choice(tried: &[BackendId]) -> Choice<'_> {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = weir_balance::hash(&count.to_le_bytes());
    Choice { tried, now: START.elapsed(), random, ..Choice::default() }
}
