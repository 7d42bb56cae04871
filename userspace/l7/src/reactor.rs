//! One thread, one event loop, with listeners, pools, timers and counters of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use weir_balance::Upstream;

use crate::buffer::{Buffers, VectorPool};
use crate::counters::Counters;
use crate::deferred::Flusher;
use crate::http2;
use crate::listener::{self, Acceptor, Listener, ListenerShared};
use crate::outlet::Outlet;
use crate::pool::{Kept, Pool, PoolKey};
use crate::snapshot::Snapshot;
use crate::stream::Stream;
use crate::timers::{TICK_MS, Timers};

/// How long idle connections of a listener that was removed have for a last request.
const REMOVED_IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at idle backend connections.
const PRUNE_TICKS: u64 = 20;

/// What the engine asks of a reactor.
pub(crate) enum Order {
    /// Serve by this snapshot, on these sockets besides those that it still has.
    Apply { snapshot: Arc<Snapshot>, added: Vec<NewSocket>, done: oneshot::Sender<()> },
    /// Accept nothing more, give idle connections so long for a last request; answer when the last
    /// connection is closed.
    Drain { idle: Duration, done: oneshot::Sender<()> },
}

/// A bound socket for one reactor.
pub(crate) struct NewSocket {
    pub(crate) shared: Arc<ListenerShared>,
    pub(crate) socket: std::net::TcpListener,
}

/// What the tasks of one reactor share. Never leaves its thread.
pub(crate) struct Reactor {
    snapshot: RefCell<Rc<OwnSnapshot>>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) vectors: VectorPool,
    pub(crate) pool: Pool,
    pub(crate) backends: http2::Backends,
    pub(crate) flusher: Rc<Flusher>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) outlet: Outlet,
    pub(crate) draining: Cell<bool>,
    /// Open client connections.
    pub(crate) open: Cell<usize>,
    /// Requests that wait for a place.
    pub(crate) waiting: Cell<usize>,
    /// Copies of requests on their way, and the memory that they take up.
    pub(crate) mirroring: Cell<usize>,
    pub(crate) mirroring_bytes: Cell<usize>,
    /// Told when a request was answered that held a place.
    pub(crate) room: Notify,
    /// Told when `open` becomes 0.
    pub(crate) idle: Notify,
    random: Cell<u64>,
    started: Instant,
    /// Time since `started`, as of the last sweep.
    now: Cell<Duration>,
}

/// A reactor's own hold on the shared snapshot: every request takes it, and the shared count would
/// bounce between cores.
pub(crate) struct OwnSnapshot(Arc<Snapshot>);

impl Deref for OwnSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl Reactor {
    fn new(
        snapshot: Arc<Snapshot>,
        counters: Arc<Counters>,
        outlet: Outlet,
        (seed, started): (u64, Instant),
    ) -> Self {
        Self {
            outlet,
            snapshot: RefCell::new(Rc::new(OwnSnapshot(snapshot))),
            timers: Rc::new(Timers::default()),
            buffers: Rc::new(Buffers::default()),
            vectors: VectorPool::default(),
            pool: Pool::default(),
            backends: http2::Backends::default(),
            flusher: Rc::default(),
            counters,
            draining: Cell::new(false),
            open: Cell::new(0),
            waiting: Cell::new(0),
            mirroring: Cell::new(0),
            mirroring_bytes: Cell::new(0),
            room: Notify::new(),
            idle: Notify::new(),
            random: Cell::new(seed),
            started,
            now: Cell::new(Duration::ZERO),
        }
    }

    /// What the next request is served by.
    pub(crate) fn snapshot(&self) -> Rc<OwnSnapshot> {
        Rc::clone(&self.snapshot.borrow())
    }

    /// Keeps a backend connection for the next request, unless another reactor waits for its place.
    pub(crate) fn keep(&self, key: PoolKey, kept: Kept, upstream: &Upstream) {
        let is_wanted = upstream.policy().limits.connections.is_some()
            && upstream.pending() > 0
            && self.waiting.get() == 0;
        // A stream of HTTP/2 serves one exchange; its connection is kept elsewhere.
        if !is_wanted && !matches!(kept.stream, Stream::Pipe(_)) {
            self.pool.put(key, kept, self.now.get());
        }
    }

    pub(crate) fn count_open(&self, open: usize) {
        self.open.set(open);
        self.counters.open.set(open as u64);
    }

    /// Time since the reactors were started, as of the last sweep.
    pub(crate) fn now(&self) -> Duration {
        self.now.get()
    }

    /// A number by chance.
    pub(crate) fn draw(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "half of it is as good")]
        let half = self.random() as u64;
        half
    }

    /// 128 bits for names, not for secrets (two steps of SplitMix64).
    pub(crate) fn random(&self) -> u128 {
        let step = || {
            let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            self.random.set(state);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        };
        u128::from(step()) << 64 | u128::from(step())
    }
}

/// How to run a reactor.
pub(crate) struct Setup {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) seed: u64,
    pub(crate) outlet: Outlet,
    /// The same for all reactors: what is ejected is so for all of them as long.
    pub(crate) started: Instant,
}

/// Runs a reactor on this thread until its orders end.
pub(crate) fn run(setup: Setup) -> io::Result<()> {
    let Setup { snapshot, counters, mut orders, seed, outlet, started } = setup;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let reactor = Rc::new(Reactor::new(snapshot, counters, outlet, (seed, started)));
        let sweep = spawn_local(sweep(Rc::clone(&reactor)));
        let flush = spawn_local(Rc::clone(&reactor.flusher).run());
        let mut listening = Listening::default();
        while let Some(order) = orders.recv().await {
            match order {
                Order::Apply { snapshot, added, done } => {
                    *reactor.snapshot.borrow_mut() = Rc::new(OwnSnapshot(snapshot));
                    listening.close_removed(&reactor);
                    added.into_iter().for_each(|socket| listening.add(&reactor, socket));
                    listening.follow(&reactor);
                    let _ = done.send(());
                }
                Order::Drain { idle, done } => {
                    reactor.draining.set(true);
                    listening.close_all(&reactor, idle);
                    reactor.timers.wake_all();
                    spawn_local(answer_when_idle(Rc::clone(&reactor), done));
                }
            }
        }
        sweep.abort();
        flush.abort();
    });
    Ok(())
}

/// The sockets that a reactor accepts from, by configured address: one each, or several where another
/// process with more reactors has left them.
#[derive(Default)]
struct Listening(HashMap<SocketAddr, Vec<Accepting>>);

struct Accepting {
    listener: Rc<Listener>,
    socket: Rc<Acceptor>,
    task: JoinHandle<()>,
}

impl Listening {
    fn add(&mut self, reactor: &Rc<Reactor>, NewSocket { shared, socket }: NewSocket) {
        let configured = shared.configured;
        let snapshot = reactor.snapshot();
        let Some(serving) = snapshot.listener(configured) else { return };
        match Acceptor::new(socket) {
            Ok(socket) => {
                let (listener, socket) = (Rc::new(Listener::new(shared, serving)), Rc::new(socket));
                let accept =
                    listener::accept(Rc::clone(reactor), Rc::clone(&listener), Rc::clone(&socket));
                let task = spawn_local(accept);
                let accepting = Accepting { listener, socket, task };
                self.0.entry(configured).or_default().push(accepting);
            }
            Err(error) => tracing::error!(listener = %configured, "register socket: {error}"),
        }
    }

    /// Sets on listeners and their sockets what the snapshot asks of them.
    fn follow(&self, reactor: &Reactor) {
        let snapshot = reactor.snapshot();
        for (&configured, accepting) in &self.0 {
            let Some(serving) = snapshot.listener(configured) else { continue };
            let is_first = serving.is_client_first();
            for Accepting { listener, socket, .. } in accepting {
                listener.follow(serving);
                socket.expect_words(is_first);
            }
        }
    }

    fn close_removed(&mut self, reactor: &Rc<Reactor>) {
        let snapshot = reactor.snapshot();
        let removed: Vec<_> = self
            .0
            .keys()
            .copied()
            .filter(|&configured| snapshot.listener(configured).is_none())
            .collect();
        let idle = REMOVED_IDLE_TIMEOUT;
        removed.into_iter().for_each(|configured| self.close(reactor, configured, idle));
        reactor.timers.wake_all();
    }

    fn close_all(&mut self, reactor: &Rc<Reactor>, idle: Duration) {
        let all: Vec<_> = self.0.keys().copied().collect();
        all.into_iter().for_each(|configured| self.close(reactor, configured, idle));
    }

    fn close(&mut self, reactor: &Rc<Reactor>, configured: SocketAddr, idle: Duration) {
        for Accepting { listener, socket, task } in self.0.remove(&configured).unwrap_or_default() {
            task.abort();
            listener::accept_rest(reactor, &listener, &socket);
            listener.idle_until.set(reactor.now() + idle);
            listener.closing.set(true);
        }
    }
}

async fn answer_when_idle(reactor: Rc<Reactor>, done: oneshot::Sender<()>) {
    loop {
        let idle = reactor.idle.notified();
        if reactor.open.get() == 0 {
            break;
        }
        idle.await;
    }
    let _ = done.send(());
}

/// The one clock of a reactor.
async fn sweep(reactor: Rc<Reactor>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for tick in 0u64.. {
        ticks.tick().await;
        let now = reactor.started.elapsed();
        reactor.now.set(now);
        reactor.timers.sweep(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        if reactor.waiting.get() == 0 {
            let snapshot = reactor.snapshot();
            snapshot.wanted_upstreams().for_each(|upstream| reactor.pool.make_room(upstream));
        }
        if tick % PRUNE_TICKS == 0 {
            let snapshot = reactor.snapshot();
            reactor.pool.prune(now, |key| snapshot.knows(key));
            reactor.backends.prune(|key| snapshot.knows(key));
            reactor.buffers.prune();
        }
    }
}
