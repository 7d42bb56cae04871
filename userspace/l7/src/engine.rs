//! All reactors together: started, given snapshots, drained.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use weir_model::Listener;
use weir_net::Tickets;

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
    #[error("listener {name}: {source}")]
    Listen {
        /// The listener's name.
        name: String,
        /// What is wrong with its address.
        source: weir_net::ListenError,
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
    bans: Bans,
    tickets: Tickets,
    started: Instant,
}

#[derive(Debug)]
struct Handle {
    orders: Option<mpsc::UnboundedSender<Order>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct BoundListener {
    name: String,
    shared: Arc<ListenerShared>,
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
    added: Vec<(Arc<ListenerShared>, Vec<std::net::TcpListener>)>,
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
        let mut engine =
            Self { reactors: Vec::new(), listeners: Mutex::default(), bans, tickets, started };
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
            engine.reactors.push(Handle { orders: Some(orders), counters, thread: Some(thread) });
        }
        Ok(engine)
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
        let mut plan =
            Plan { snapshot: Arc::new(snapshot), listeners: Vec::new(), added: Vec::new() };
        for Listener { name, address, .. } in listeners {
            let bound = self.bound();
            let open = bound.iter().find(|open| open.shared.configured == *address);
            let shared = match open {
                Some(open) => Arc::clone(&open.shared),
                None => plan.bind(name, *address, self.reactors.len())?,
            };
            plan.listeners.push(BoundListener { name: name.clone(), shared });
        }
        Ok(plan)
    }

    /// Puts a plan in force. Ends when every reactor serves by it.
    pub async fn apply(&self, plan: Plan) {
        let Plan { snapshot, listeners, added } = plan;
        let mut sockets: Vec<Vec<NewSocket>> = self.reactors.iter().map(|_| Vec::new()).collect();
        for (shared, bound) in added {
            for (own, socket) in sockets.iter_mut().zip(bound) {
                own.push(NewSocket { shared: Arc::clone(&shared), socket });
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
        *self.bound() = listeners;
    }

    /// Stops accepting; ends when the last connection is closed. Idle ones are closed at once,
    /// the others after their current request.
    pub fn drain(&self) -> impl Future<Output = ()> + use<> {
        let drained: Vec<_> = self
            .reactors
            .iter()
            .map(|reactor| {
                let (done, drained) = oneshot::channel();
                reactor.order(Order::Drain { done });
                drained
            })
            .collect();
        async move {
            for reactor in drained {
                let _ = reactor.await;
            }
        }
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
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn bind(
        &mut self,
        name: &str,
        address: SocketAddr,
        count: usize,
    ) -> Result<Arc<ListenerShared>, EngineError> {
        let refused = |source| EngineError::Listen { name: name.to_owned(), source };
        let sockets = weir_net::bind_shared(address, count).map_err(refused)?;
        let bound = sockets.first().map_or(Ok(address), std::net::TcpListener::local_addr)?;
        let connections = AtomicU32::new(0);
        let shared = Arc::new(ListenerShared { configured: address, bound, connections });
        self.added.push((Arc::clone(&shared), sockets));
        Ok(shared)
    }
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
