//! One thread of the relay: an event loop with pairs, pipes and a buffer of its own.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::direction::Tools;
use crate::idle::IdleTable;
use crate::link::{Link, News, Side, State, Unusable};
use crate::relay::{End, Ended, Pair};

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 512;
const WAKE: Token = Token(usize::MAX);

/// What a thread is told.
pub(crate) enum Order {
    Relay(Box<Pair>),
    CloseAll,
    Drain(Instant),
    Stop,
}

/// All that one thread has.
pub(crate) struct Worker {
    poll: Poll,
    inbox: Receiver<Order>,
    open: Arc<AtomicUsize>,
    /// By slot; a socket's token is its pair's slot and its side.
    links: Vec<Option<Place>>,
    free: Vec<usize>,
    /// Slots that ended in this round: what the kernel still tells of them is not their
    /// successors'.
    freed: Vec<usize>,
    /// Slots whose turn it is.
    turns: VecDeque<usize>,
    idle: IdleTable,
    tools: Tools,
    drain: Drain,
    stopped: bool,
}

/// When pairs are closed that have not ended by themselves.
#[derive(Clone, Copy, Debug)]
enum Drain {
    Never,
    At(Instant),
    /// It is past.
    Done,
}

struct Place {
    link: Link,
    /// It stands in `turns`.
    queued: bool,
}

impl Worker {
    pub(crate) fn new(
        inbox: Receiver<Order>,
        open: Arc<AtomicUsize>,
    ) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let worker = Self {
            poll,
            inbox,
            open,
            links: Vec::new(),
            free: Vec::new(),
            freed: Vec::new(),
            turns: VecDeque::new(),
            idle: IdleTable::new(),
            tools: Tools::new(),
            drain: Drain::Never,
            stopped: false,
        };
        Ok((worker, waker))
    }

    /// Relays until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.stopped {
            if let Err(error) = self.poll.poll(&mut events, self.pause(Instant::now()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!("wait for sockets of the relay: {error}");
                break;
            }
            let now = Instant::now();
            for event in &events {
                if event.token() == WAKE { self.take_orders(now) } else { self.note(event) }
            }
            self.take_turns(now);
            self.sweep(now);
            self.free.append(&mut self.freed);
        }
        self.stopped = true;
        self.take_orders(Instant::now());
        self.close_all();
    }

    /// How long there is nothing to do but what the kernel tells of.
    fn pause(&self, now: Instant) -> Option<Duration> {
        if !self.turns.is_empty() {
            return Some(Duration::ZERO);
        }
        let drain = match self.drain {
            Drain::At(deadline) => Some(deadline.saturating_duration_since(now)),
            Drain::Never | Drain::Done => None,
        };
        [self.idle.pause(now), drain].into_iter().flatten().min()
    }

    fn take_orders(&mut self, now: Instant) {
        while let Ok(order) = self.inbox.try_recv() {
            match order {
                Order::Relay(pair) if self.stopped || matches!(self.drain, Drain::Done) => {
                    self.told(pair.on_end, End::Drained);
                }
                Order::Relay(pair) => self.add(*pair, now),
                Order::CloseAll => self.close_all(),
                Order::Drain(deadline) => self.drain = Drain::At(deadline),
                Order::Stop => self.stopped = true,
            }
        }
    }

    fn add(&mut self, pair: Pair, now: Instant) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        let watched = Link::new(pair).and_then(|(link, idle)| self.watch(slot, link, idle));
        match watched {
            Ok((link, idle)) => {
                self.idle.insert(slot, idle, now);
                if let Some(place) = self.links.get_mut(slot) {
                    // Bytes may have been handed over with it.
                    *place = Some(Place { link, queued: true });
                    self.turns.push_back(slot);
                }
            }
            Err(Unusable { error, on_end }) => {
                tracing::error!("watch the sockets of a pair: {error}");
                self.free.push(slot);
                self.told(on_end, End::Failed);
            }
        }
    }

    /// Has the kernel tell of both sockets from now on: edges, of reading and writing alike, so
    /// that a pair costs two calls for all its life.
    fn watch(
        &self,
        slot: usize,
        mut link: Link,
        idle: Duration,
    ) -> Result<(Link, Duration), Unusable> {
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        let watched = registry
            .register(&mut link.client, token(slot, Side::Client), both)
            .and_then(|()| registry.register(&mut link.backend, token(slot, Side::Backend), both));
        match watched {
            Ok(()) => Ok((link, idle)),
            Err(error) => Err(link.unusable(error)),
        }
    }

    fn note(&mut self, event: &Event) {
        let slot = event.token().0 / 2;
        let side = if event.token().0.is_multiple_of(2) { Side::Client } else { Side::Backend };
        let Some(Some(place)) = self.links.get_mut(slot) else { return };
        place.link.note(News {
            side,
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            error: event.is_error(),
        });
        if !place.queued {
            place.queued = true;
            self.turns.push_back(slot);
        }
    }

    /// One turn of every pair that has one; who has more to do stands at the end of the queue, behind
    /// what the kernel tells of meanwhile.
    fn take_turns(&mut self, now: Instant) {
        for _ in 0..self.turns.len() {
            let Some(slot) = self.turns.pop_front() else { return };
            let Some(Some(place)) = self.links.get_mut(slot) else { continue };
            let before = place.link.moved();
            let state = place.link.turn(&mut self.tools);
            place.queued = state == State::Again;
            if place.link.moved() > before {
                self.idle.moved(slot, now);
            }
            match state {
                State::Waits => {}
                State::Again => self.turns.push_back(slot),
                State::Ended(how) => self.end(slot, how),
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        for slot in self.idle.due(now) {
            self.end(slot, End::IdleTimeout);
        }
        if let Drain::At(deadline) = self.drain
            && deadline <= now
        {
            self.drain = Drain::Done;
            self.close_all();
        }
    }

    fn close_all(&mut self) {
        for slot in 0..self.links.len() {
            self.end(slot, End::Drained);
        }
    }

    fn end(&mut self, slot: usize, how: End) {
        let Some(place) = self.links.get_mut(slot).and_then(Option::take) else { return };
        self.idle.remove(slot);
        self.freed.push(slot);
        self.open.fetch_sub(1, Ordering::Relaxed);
        place.link.end(how, &mut self.tools);
    }

    /// Tells of a pair that was never relayed.
    fn told(&self, on_end: Box<dyn FnOnce(Ended) + Send>, how: End) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        on_end(Ended { to_backend: 0, to_client: 0, how });
    }
}

fn token(slot: usize, side: Side) -> Token {
    Token(slot * 2 + usize::from(side == Side::Backend))
}
