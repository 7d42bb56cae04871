//! The relay as others see it: threads that pairs of sockets are given to.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::worker::{Order, Worker};

/// Two connections that become one: what comes from one side goes to the other.
pub struct Pair {
    /// The connection that was accepted.
    pub client: TcpStream,
    /// The connection that was opened for it.
    pub backend: TcpStream,
    /// Bytes that were read from the client already; they are sent first.
    pub to_backend: Vec<u8>,
    /// Bytes that were read from the backend already; they are sent first.
    pub to_client: Vec<u8>,
    /// How long both directions together may be silent.
    pub idle: Duration,
    /// Told of the end, on the relay's thread: must neither wait nor panic.
    pub on_end: Box<dyn FnOnce(Ended) + Send>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, backend, idle, .. } = self;
        f.debug_struct("Pair")
            .field("client", client)
            .field("backend", backend)
            .field("idle", idle)
            .finish_non_exhaustive()
    }
}

/// What a pair has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Bytes that were given to the backend's socket, those handed over included.
    pub to_backend: u64,
    /// Bytes that were given to the client's socket, those handed over included.
    pub to_client: u64,
    /// Why it ended.
    pub how: End,
}

/// Why a pair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides have ended their direction, and everything has been passed on.
    Finished,
    /// Nothing moved in either direction for too long.
    IdleTimeout,
    /// The client's connection broke; the backend's was reset.
    ClientReset,
    /// The backend's connection broke; the client's was reset.
    BackendReset,
    /// The relay was told to close it.
    Drained,
    /// The system refused to watch its sockets.
    Failed,
}

impl End {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Finished,
        Self::IdleTimeout,
        Self::ClientReset,
        Self::BackendReset,
        Self::Drained,
        Self::Failed,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::IdleTimeout => "idle_timeout",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::Drained => "drained",
            Self::Failed => "failed",
        }
    }
}

/// The threads; they end, and their pairs with them, when this is dropped.
#[derive(Debug)]
pub struct Relay {
    handle: RelayHandle,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts so many threads, at least one.
    ///
    /// # Errors
    /// Of the system: no thread or no event queue is to be had.
    pub fn start(threads: usize) -> io::Result<Self> {
        let mut relay = Self { handle: RelayHandle { seats: Arc::default() }, threads: Vec::new() };
        let mut seats = Vec::new();
        for number in 0..threads.max(1) {
            let open = Arc::<AtomicUsize>::default();
            let (orders, inbox) = mpsc::channel();
            let (worker, waker) = Worker::new(inbox, Arc::clone(&open))?;
            let thread = std::thread::Builder::new().name(format!("relay-{number}"));
            relay.threads.push(thread.spawn(move || worker.run())?);
            seats.push(Seat { orders, waker, open });
            relay.handle = RelayHandle { seats: seats.iter().cloned().collect() };
        }
        Ok(relay)
    }

    /// What pairs are given to; as many copies as there are users.
    #[must_use]
    pub fn handle(&self) -> RelayHandle {
        self.handle.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.handle.tell_all(|| Order::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the relay has panicked");
            }
        }
    }
}

/// Gives pairs to a relay.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    seats: Arc<[Seat]>,
}

/// One thread, as seen from the others.
#[derive(Clone, Debug)]
struct Seat {
    orders: Sender<Order>,
    waker: Arc<mio::Waker>,
    /// Pairs that were given to it and have not ended.
    open: Arc<AtomicUsize>,
}

impl RelayHandle {
    /// Relays between the two from now on, on the thread that has the fewest pairs. They are told
    /// [`End::Drained`] at once when the relay has stopped.
    pub fn relay(&self, pair: Pair) {
        let fewest = self.seats.iter().min_by_key(|seat| seat.open.load(Ordering::Relaxed));
        let Some(seat) = fewest else { return refuse(pair) };
        seat.open.fetch_add(1, Ordering::Relaxed);
        match seat.orders.send(Order::Relay(Box::new(pair))) {
            Ok(()) => wake(&seat.waker),
            Err(mpsc::SendError(order)) => {
                seat.open.fetch_sub(1, Ordering::Relaxed);
                if let Order::Relay(pair) = order {
                    refuse(*pair);
                }
            }
        }
    }

    /// Pairs that were given to the relay and have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.seats.iter().map(|seat| seat.open.load(Ordering::Relaxed)).sum()
    }

    /// Lets pairs end by themselves until `deadline`; then closes what is left, and what is given
    /// later at once.
    pub fn drain(&self, deadline: Instant) {
        self.tell_all(|| Order::Drain(deadline));
    }

    /// Closes every pair that is open now.
    pub fn close_all(&self) {
        self.tell_all(|| Order::CloseAll);
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        for seat in self.seats.iter() {
            if seat.orders.send(order()).is_ok() {
                wake(&seat.waker);
            }
        }
    }
}

fn wake(waker: &mio::Waker) {
    if let Err(error) = waker.wake() {
        tracing::error!("wake a thread of the relay: {error}");
    }
}

fn refuse(pair: Pair) {
    (pair.on_end)(Ended { to_backend: 0, to_client: 0, how: End::Drained });
}
