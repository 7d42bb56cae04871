//! To which backend a request is sent, and whether it may be sent to another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use weir_balance::{Backend, BackendId, Choice, OpenRequest, Outcome, PendingSlot};
use weir_model::{ProxyVersion, RetryOn, ServiceProtocol};
use weir_net::{TlsStream, proxy_protocol};

use crate::exchange::Failure;
use crate::forwarded::ClientSide;
use crate::pool::{Kept, PoolKey};
use crate::reactor::Reactor;
use crate::refusal::Refusal;
use crate::snapshot::Service;
use crate::stopwatch::Stopwatch;
use crate::stream::Stream;

/// Between two looks for a place that another reactor may have given back.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The attempts at one request. A backend that cannot be reached costs an attempt nothing: the next
/// one is tried until all were.
pub(crate) struct Attempts<'a> {
    service: &'a Service,
    /// What the choice goes by.
    wanted: Wanted,
    unreachable: Vec<BackendId>,
    /// Backends that had the request and did not answer it well.
    failed: Vec<BackendId>,
    /// How often it may be sent once more.
    left: u32,
    /// The client, for whoever is told by the PROXY protocol.
    client: (SocketAddr, SocketAddr),
    /// Connections may serve other clients before and after.
    pooled: bool,
}

/// What of a request decides on its backend.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) hash: Option<u64>,
    /// The token of the backend that the client was served by.
    pub(crate) sticky: Option<u64>,
}

/// A connection to the backend that a request was given to.
pub(crate) struct BackendConnection {
    pub(crate) kept: Kept,
    /// Where it is kept for the next request; `None` is nowhere.
    pub(crate) key: Option<PoolKey>,
    pub(crate) open: OpenRequest,
    /// Runs since the backend was asked for the connection; restarted with a request.
    pub(crate) watch: Stopwatch,
}

impl BackendConnection {
    pub(crate) fn stream(&self) -> &Stream {
        &self.kept.stream
    }
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(service: &'a Service, wanted: Wanted, side: &ClientSide) -> Self {
        Self {
            client: (side.peer, side.local),
            // A connection that begins with a client's address is that client's.
            pooled: service.proxy_protocol.is_none(),
            service,
            wanted,
            unreachable: Vec::new(),
            failed: Vec::new(),
            left: service.retries.attempts,
        }
    }

    /// Connections are for nothing else before or after.
    pub(crate) fn unpooled(self) -> Self {
        Self { pooled: false, ..self }
    }

    /// A connection from the pool, or a new one, to the backend whose turn it is.
    pub(crate) async fn connect(
        &mut self,
        reactor: &Reactor,
    ) -> Result<BackendConnection, Refusal> {
        let mut refusal = Refusal::NoBackend;
        loop {
            let backend = self.pick(reactor).ok_or(refusal)?;
            let open = backend.open_request();
            let watch = Stopwatch::start(&self.service.upstream);
            match self.open(reactor, backend).await {
                Ok(kept) => {
                    let key = self.pooled.then_some((backend.id(), self.service.transport));
                    return Ok(BackendConnection { kept, key, open, watch });
                }
                // It is not the backend's fault, and no other one has more room.
                Err(refused @ (Refusal::QueueFull | Refusal::QueueTimeout)) => return Err(refused),
                Err(why) => refusal = why,
            }
            backend.count_failure();
            self.tell(reactor, backend, Outcome::LocalError);
            self.unreachable.push(backend.id());
        }
    }

    /// Takes note of how a backend dealt with the request.
    pub(crate) fn tell(&self, reactor: &Reactor, backend: &Backend, outcome: Outcome) {
        let upstream = &self.service.upstream;
        if let Some(lasts) = upstream.on_result(backend, outcome, reactor.now()) {
            let (address, name) = (backend.address(), upstream.name());
            tracing::warn!("backend {address} of {name} is ejected for {lasts:?}");
        }
    }

    /// The same of an answer, as far as its head and how long that took.
    pub(crate) fn tell_answer(&self, reactor: &Reactor, backend: &BackendConnection, status: u16) {
        let outcome = outcome(status, backend.watch.took());
        self.tell(reactor, backend.open.backend(), outcome);
    }

    /// The same where there is no answer, or none that is passed on.
    pub(crate) fn tell_failure(&self, reactor: &Reactor, backend: &Backend, failure: Failure) {
        let outcome = match failure {
            // The client's fault, or found out too late to say whose.
            Failure::Refused(refusal) if refusal != Refusal::BadResponse => return,
            Failure::Cut => return,
            Failure::Status(status) => outcome(status, Duration::ZERO),
            Failure::Refused(_) => Outcome::GatewayError,
            Failure::Unsent | Failure::Died | Failure::TimedOut => Outcome::LocalError,
        };
        backend.count_failure();
        self.tell(reactor, backend, outcome);
    }

    async fn open(&self, reactor: &Reactor, backend: &Backend) -> Result<Kept, Refusal> {
        let service = self.service;
        let key = (backend.id(), service.transport);
        if let Some(kept) = self.pooled.then(|| reactor.pool.take(key)).flatten() {
            return Ok(kept);
        }
        // Rare, and large while it lasts.
        Box::pin(self.open_new(reactor, backend, key)).await
    }

    async fn open_new(
        &self,
        reactor: &Reactor,
        backend: &Backend,
        key: PoolKey,
    ) -> Result<Kept, Refusal> {
        let service = self.service;
        let connecting = connect(service, backend.address(), self.client);
        // What is only passed on needs all of a connection, whatever it speaks.
        if service.protocol == ServiceProtocol::Http2 && self.pooled {
            let stream = reactor.backends.stream(reactor, service, key, connecting);
            let opened = timeout(service.timeouts.connect, stream).await;
            let stream = opened.unwrap_or(Err(Refusal::ConnectTimeout))?;
            return Ok(Kept { stream, _slot: None });
        }
        let slot = match service.upstream.try_connection() {
            Some(slot) => slot,
            None => match self.wait_for_connection(reactor, key).await? {
                Freed::Connection(kept) => return Ok(kept),
                Freed::Place(slot) => slot,
            },
        };
        let opened = timeout(service.timeouts.connect, connecting).await;
        let stream = opened.unwrap_or(Err(Refusal::ConnectTimeout))?;
        Ok(Kept { stream, _slot: Some(slot) })
    }

    async fn wait_for_connection(&self, reactor: &Reactor, key: PoolKey) -> Result<Freed, Refusal> {
        let upstream = &self.service.upstream;
        wait_for(reactor, self.service, || {
            let kept = self.pooled.then(|| reactor.pool.take(key)).flatten();
            kept.map(Freed::Connection).or_else(|| {
                // Connections to the other backends of the upstream fill it as well.
                reactor.pool.make_room(upstream);
                upstream.try_connection().map(Freed::Place)
            })
        })
        .await
    }

    /// Whether the request may be sent once more after it failed so; `is_repeatable` tells whether a
    /// backend may have acted on it without harm.
    pub(crate) fn may_retry(
        &mut self,
        reactor: &Reactor,
        failure: Failure,
        is_repeatable: bool,
        backend: &Backend,
    ) -> bool {
        let on = &self.service.retries.on;
        let (is_asked, is_safe) = match failure {
            Failure::Unsent => (on.contains(&RetryOn::ConnectFailure), true),
            Failure::Died => (on.contains(&RetryOn::Reset), is_repeatable),
            Failure::TimedOut => (on.contains(&RetryOn::Timeout), is_repeatable),
            // Only told of where another attempt was granted.
            Failure::Status(_) => (true, is_repeatable),
            Failure::Refused(_) | Failure::Cut => (false, false),
        };
        let is_status = matches!(failure, Failure::Status(_));
        if !is_asked || !is_safe || !(is_status || self.grant(reactor)) {
            return false;
        }
        self.failed.push(backend.id());
        true
    }

    /// Whether an answer of that status is thrown away for another attempt.
    pub(crate) fn retries_status(
        &mut self,
        reactor: &Reactor,
        status: u16,
        is_repeatable: bool,
    ) -> bool {
        let is_asked = self.service.retries.on.contains(&RetryOn::Status(status));
        is_asked && is_repeatable && self.grant(reactor)
    }

    /// One more attempt, if there is one left and the budget allows it.
    fn grant(&mut self, reactor: &Reactor) -> bool {
        let is_granted = self.left > 0 && self.has_budget(reactor);
        self.left -= u32::from(is_granted);
        is_granted
    }

    fn has_budget(&self, reactor: &Reactor) -> bool {
        let has = self.service.budget.try_retry(reactor.now());
        if !has {
            reactor.counters.retries_over_budget.add(1);
        }
        has
    }

    /// An attempt besides the one at `backend`, at any other; `None` where there is none, or the budget
    /// does not allow it.
    pub(crate) fn elsewhere(&self, reactor: &Reactor, backend: &Backend) -> Option<Self> {
        let tried = self.unreachable.iter().chain(&self.failed).copied().chain([backend.id()]);
        let other = Self { unreachable: tried.collect(), failed: Vec::new(), ..*self };
        let is_one_left = self.service.upstream.has_other(&other.unreachable, reactor.now());
        (is_one_left && self.has_budget(reactor)).then_some(other)
    }

    /// Another backend than those that failed where there is one: else one may only have closed an
    /// idle connection, and a new one will do.
    fn pick(&self, reactor: &Reactor) -> Option<&'a Arc<Backend>> {
        let upstream = &self.service.upstream;
        let Wanted { hash, sticky } = self.wanted;
        let choice = Choice {
            tried: &self.unreachable,
            hash,
            sticky,
            now: reactor.now(),
            random: reactor.draw(),
        };
        if self.failed.is_empty() {
            return upstream.pick(&choice);
        }
        let avoided: Vec<_> = self.unreachable.iter().chain(&self.failed).copied().collect();
        let other = upstream.pick(&Choice { tried: &avoided, ..choice });
        other.or_else(|| upstream.pick(&choice))
    }

    /// What the choice goes by.
    pub(crate) fn wanted(&self) -> Wanted {
        self.wanted
    }
}

fn outcome(status: u16, latency: Duration) -> Outcome {
    match status {
        502..=504 => Outcome::GatewayError,
        500..=599 => Outcome::ServerError,
        _ => Outcome::Success { latency },
    }
}

/// What a request that waited has got.
enum Freed {
    Connection(Kept),
    Place(weir_balance::ConnectionSlot),
}

/// Counts a request that waits.
struct Waiting<'a>(&'a Reactor);

impl<'a> Waiting<'a> {
    fn new(reactor: &'a Reactor) -> Self {
        reactor.waiting.set(reactor.waiting.get() + 1);
        Self(reactor)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

/// Waits among no more than may wait, and no longer than may be, until `look` finds something.
pub(crate) async fn wait_for<T>(
    reactor: &Reactor,
    service: &Service,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, Refusal> {
    if let Some(found) = look() {
        return Ok(found);
    }
    let _waiting: PendingSlot = service.upstream.try_pending().ok_or(Refusal::QueueFull)?;
    let _counted = Waiting::new(reactor);
    let deadline = Instant::now() + service.timeouts.queue;
    loop {
        let freed = reactor.room.notified();
        if let Some(found) = look() {
            return Ok(found);
        }
        // Another reactor tells nobody here.
        let soon = deadline.min(Instant::now() + LOOK_INTERVAL);
        let _ = timeout_at(soon, freed).await;
        if Instant::now() >= deadline {
            return look().ok_or(Refusal::QueueTimeout);
        }
    }
}

/// A new connection, with what a service puts around its bytes.
async fn connect(
    service: &Service,
    address: SocketAddr,
    (source, destination): (SocketAddr, SocketAddr),
) -> Result<Stream, Refusal> {
    let mut socket = TcpStream::connect(address).await.map_err(|_| Refusal::ConnectFailed)?;
    // A request that is written in one piece must not wait for an acknowledgement.
    let _ = socket.set_nodelay(true);
    if let Some(version) = service.proxy_protocol {
        let mut header = Vec::new();
        match version {
            ProxyVersion::V1 => proxy_protocol::append_v1(source, destination, &mut header),
            ProxyVersion::V2 => proxy_protocol::append_v2(source, destination, &mut header),
        }
        socket.write_all(&header).await.map_err(|_| Refusal::ConnectFailed)?;
    }
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
