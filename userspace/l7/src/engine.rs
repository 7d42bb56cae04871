//! All reactors together: started, given snapshots, drained.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use weir_model::Listener;
use weir_net::{ListenError, Tickets};

use crate::bans::Bans;
use crate::counters::Counters;
use crate::listener::ListenerShared;
use crate::outlet::Outlet;
use crate::reactor::{self, NewSocket, Order, Setup};
use crate::snapshot::Snapshot;

/// Why the engine could not start or take a plan. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A listener's address cannot be bound.
    #[error("listener {name}")]
    Listen {
        /// The listener's name.
        name: String,
        /// What is wrong with its address.
        source: ListenError,
    },
    /// The kernel refused a thread or an event queue.
    #[error("start reactor: {0}")]
    Reactor(#[from] io::Error),
}

/// The threads that serve traffic. Dropping it ends them at once, with all connections.
#[derive(Debug)]
pub struct Engine {
    reactors: Vec<Handle>,
    /// Those of the plan in force; held for moments, by the control side alone.
    listeners: Mutex<Vec<BoundListener>>,
    /// Sockets of a process before this one, for the first plan.
    inherited: Mutex<Vec<ListenerSockets>>,
    /// Of the plan in force.
    snapshot: Mutex<Arc<Snapshot>>,
    bans: Bans,
    tickets: Tickets,
    started: Instant,
}

#[derive(Debug)]
struct Handle {
    /// Where it is pinned.
    core: Option<usize>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct BoundListener {
    name: String,
    shared: Arc<ListenerShared>,
    /// What the reactors accept from, in their order, once more: for who selects between them, and for
    /// the process after this one.
    sockets: Arc<Vec<TcpListener>>,
}

/// The sockets of a listener, by its configured address.
#[derive(Clone, Debug)]
pub struct ListenerSockets {
    /// As configured; identifies the listener over reloads and upgrades.
    pub configured: SocketAddr,
    /// The reactors take turns: with two of them the first has the first, the third, …
    pub sockets: Arc<Vec<TcpListener>>,
}

/// What a listener is doing.
#[derive(Clone, Debug)]
pub struct ListenerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is bound.
    pub address: SocketAddr,
    /// Open client connections.
    pub connections: u32,
}

/// A complete change, ready to be applied: its new sockets are bound.
#[derive(Debug)]
pub struct Plan {
    snapshot: Arc<Snapshot>,
    listeners: Vec<BoundListener>,
    added: Vec<(Arc<ListenerShared>, Vec<TcpListener>)>,
    /// Those of `added` that do not listen yet.
    silent: Vec<Arc<Vec<TcpListener>>>,
}

impl Engine {
    /// Starts so many reactors, one a core where that is possible, that serve nothing yet.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start(reactors: NonZeroUsize, bans: Bans, outlet: &Outlet) -> Result<Self, EngineError> {
        let started = Instant::now();
        let cores = allowed_cores();
        let tickets = Tickets::new()?;
        let mut engine = Self {
            reactors: Vec::new(),
            listeners: Mutex::default(),
            inherited: Mutex::default(),
            snapshot: Mutex::default(),
            bans,
            tickets,
            started,
        };
        for index in 0..reactors.get() {
            let (orders, received) = mpsc::unbounded_channel();
            let counters = Arc::<Counters>::default();
            let setup = Setup {
                snapshot: Arc::default(),
                counters: Arc::clone(&counters),
                orders: received,
                seed: RandomState::new().hash_one(index),
                outlet: outlet.clone(),
                started,
            };
            // With more reactors than cores the scheduler knows better.
            let core = cores.get(index).copied().filter(|_| reactors.get() <= cores.len());
            let thread =
                thread::Builder::new().name(format!("reactor-{index}")).spawn(move || {
                    core.into_iter().for_each(pin);
                    if let Err(error) = reactor::run(setup) {
                        tracing::error!("reactor {index}: {error}");
                    }
                })?;
            let (orders, thread) = (Some(orders), Some(thread));
            engine.reactors.push(Handle { core, orders, counters, thread });
        }
        Ok(engine)
    }

    /// Takes sockets of the process before this one: listeners of the first plan have those of their
    /// address, the rest is closed when it is applied.
    pub fn inherit(&self, sockets: Vec<ListenerSockets>) {
        *lock(&self.inherited) = sockets;
    }

    /// The sockets of the plan in force.
    #[must_use]
    pub fn sockets(&self) -> Vec<ListenerSockets> {
        let sockets = |listener: &BoundListener| ListenerSockets {
            configured: listener.shared.configured,
            sockets: Arc::clone(&listener.sockets),
        };
        self.bound().iter().map(sockets).collect()
    }

    /// Where layer 7 asks for bans.
    #[must_use]
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    /// Time since it was started: what ejections of backends are told in.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The keys of TLS session tickets, for snapshots.
    #[must_use]
    pub fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Binds the sockets that `listeners` need besides those that are open; changes nothing yet.
    ///
    /// # Errors
    /// An address cannot be bound. What was bound is closed again.
    pub fn plan(&self, snapshot: Snapshot, listeners: &[Listener]) -> Result<Plan, EngineError> {
        let mut plan = Plan {
            snapshot: Arc::new(snapshot),
            listeners: Vec::new(),
            added: Vec::new(),
            silent: Vec::new(),
        };
        for Listener { name, address, also, .. } in listeners {
            let bound = self.bound();
            let open = bound.iter().find(|open| open.shared.configured == *address);
            let (shared, sockets) = match open {
                Some(open) => (Arc::clone(&open.shared), Arc::clone(&open.sockets)),
                None => plan
                    .open(*address, &lock(&self.inherited), self.reactors.len())
                    .map_err(|source| EngineError::Listen { name: name.clone(), source })?,
            };
            // Ahead of the plan, which costs a system call a connection at most.
            shared.serves_others.fetch_or(!also.is_empty(), Ordering::Relaxed);
            plan.listeners.push(BoundListener { name: name.clone(), shared, sockets });
        }
        Ok(plan)
    }

    /// Puts a plan in force. Ends when every reactor serves by it.
    pub async fn apply(&self, plan: Plan) {
        let Plan { snapshot, listeners, added, silent } = plan;
        *lock(&self.snapshot) = Arc::clone(&snapshot);
        // Before the reactors close theirs: then nothing is left open that nobody accepts from.
        *self.bound() = listeners;
        lock(&self.inherited).clear();
        for socket in silent.iter().flat_map(|sockets| sockets.iter()) {
            if let Err(error) = weir_net::listen(socket) {
                tracing::error!("listen: {error}");
            }
        }
        let mut sockets: Vec<Vec<NewSocket>> = self.reactors.iter().map(|_| Vec::new()).collect();
        let count = sockets.len().max(1);
        for (shared, bound) in added {
            for (index, socket) in bound.into_iter().enumerate() {
                if let Some(own) = sockets.get_mut(index % count) {
                    own.push(NewSocket { shared: Arc::clone(&shared), socket });
                }
            }
        }
        let order = |(reactor, added): (&Handle, Vec<NewSocket>)| {
            let (done, applied) = oneshot::channel();
            reactor.order(Order::Apply { snapshot: Arc::clone(&snapshot), added, done });
            applied
        };
        let applied: Vec<_> = self.reactors.iter().zip(sockets).map(order).collect();
        for reactor in applied {
            // A reactor that is gone has nothing to apply.
            let _ = reactor.await;
        }
    }

    /// Stops accepting; ends when the last connection is closed: after its current request, or its next
    /// one, which idle connections have so long for.
    pub fn drain(&self, idle: Duration) -> impl Future<Output = ()> + use<> {
        // The reactors accept what waits in queues before they close: theirs must be the last.
        let sockets = |listener: &BoundListener| BoundListener {
            sockets: Arc::default(),
            ..listener.clone()
        };
        let mut bound = self.bound();
        *bound = bound.iter().map(sockets).collect();
        drop(bound);
        let drained: Vec<_> = self
            .reactors
            .iter()
            .map(|reactor| {
                let (done, drained) = oneshot::channel();
                reactor.order(Order::Drain { idle, done });
                drained
            })
            .collect();
        async move {
            for reactor in drained {
                let _ = reactor.await;
            }
        }
    }

    /// What requests are served by.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.snapshot))
    }

    /// The listeners of the plan in force.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        let status = |listener: &BoundListener| ListenerStatus {
            name: listener.name.clone(),
            address: listener.shared.bound,
            connections: listener.shared.connections.load(Ordering::Relaxed),
        };
        self.bound().iter().map(status).collect()
    }

    fn bound(&self) -> MutexGuard<'_, Vec<BoundListener>> {
        lock(&self.listeners)
    }

    /// The core of each reactor that is pinned to one.
    #[must_use]
    pub fn cores(&self) -> Vec<Option<usize>> {
        self.reactors.iter().map(|reactor| reactor.core).collect()
    }

    /// Open connections of each reactor.
    #[must_use]
    pub fn open(&self) -> Vec<u32> {
        let open = |counters: &Counters| u32::try_from(counters.open.value()).unwrap_or(u32::MAX);
        self.counters().map(open).collect()
    }

    /// What each reactor has done.
    pub fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.reactors.iter().map(|reactor| &*reactor.counters)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for reactor in &mut self.reactors {
            reactor.orders = None;
        }
        for thread in self.reactors.iter_mut().filter_map(|reactor| reactor.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Handle {
    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl Plan {
    /// Sockets for so many reactors: those that were inherited, however many, and new ones.
    fn open(
        &mut self,
        address: SocketAddr,
        inherited: &[ListenerSockets],
        count: usize,
    ) -> Result<(Arc<ListenerShared>, Arc<Vec<TcpListener>>), ListenError> {
        let inherited = inherited.iter().find(|sockets| sockets.configured == address);
        let mut sockets = match inherited {
            Some(inherited) => copies(&inherited.sockets, address)?,
            None => weir_net::bind_shared(address, count)?,
        };
        let bound = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
        let missing = weir_net::bind_more(bound, count.saturating_sub(sockets.len()))?;
        self.silent.push(Arc::new(copies(&missing, address)?));
        sockets.extend(missing);
        let shared = ListenerShared {
            configured: address,
            bound,
            serves_others: AtomicBool::new(false),
            connections: AtomicU32::new(0),
        };
        let (shared, kept) = (Arc::new(shared), Arc::new(copies(&sockets, address)?));
        self.added.push((Arc::clone(&shared), sockets));
        Ok((shared, kept))
    }
}

/// More descriptors of the same sockets.
fn copies(sockets: &[TcpListener], address: SocketAddr) -> Result<Vec<TcpListener>, ListenError> {
    let copies: io::Result<_> = sockets.iter().map(TcpListener::try_clone).collect();
    copies.map_err(|source| ListenError::new(address, source))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cores that this process may run on.
fn allowed_cores() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None);
    let is_allowed = |core: &usize| allowed.as_ref().is_ok_and(|set| set.is_set(*core));
    (0..rustix::thread::CpuSet::MAX_CPU).filter(is_allowed).collect()
}

fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!("pin reactor to core {core}: {error}");
    }
}
