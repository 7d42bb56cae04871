//! Accepting connections on one reactor's socket of a listener.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::connection;
use crate::forwarded::{Scheme, listener_lines};
use crate::reactor::Reactor;
use crate::refusal::Refusal;
use crate::snapshot::{ListenerPolicy, Serving};
use crate::socket::Socket;

/// How long to wait when the process is out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket of this reactor. The runtime's own would register every connection that it accepts; its
/// stream takes any socket and tells when there is something to be had.
#[derive(Debug)]
pub(crate) struct Acceptor(TcpStream);

impl Acceptor {
    pub(crate) fn new(socket: TcpListener) -> io::Result<Self> {
        TcpStream::from_std(OwnedFd::from(socket).into()).map(Self)
    }

    /// Whether clients speak first here, and so are accepted once they have.
    pub(crate) fn expect_words(&self, expected: bool) {
        if let Err(error) = weir_net::set_defer_accept(&self.0, expected) {
            tracing::debug!("defer accept: {error}");
        }
    }

    /// A connection that is not registered with the event loop yet, and who is at its other end.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_io(Interest::READABLE, || self.accept()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return Poll::Ready(accepted),
            }
        }
    }

    fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (accepted, peer) = acceptfrom_with(&self.0, flags)?;
        let peer = SocketAddr::try_from(peer.ok_or(io::ErrorKind::AddrNotAvailable)?)?;
        Ok((Socket::accepted(accepted), peer))
    }
}

/// What a listener is over all reactors.
#[derive(Debug)]
pub(crate) struct ListenerShared {
    /// As configured; identifies the listener over reloads.
    pub(crate) configured: SocketAddr,
    /// Where it is bound: differs where port 0 was configured.
    pub(crate) bound: SocketAddr,
    /// It serves other addresses, too: a connection tells which.
    pub(crate) serves_others: AtomicBool,
    /// Open client connections.
    pub(crate) connections: AtomicU32,
}

/// One reactor's part in a listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) bound: SocketAddr,
    /// The listener was removed, or the reactor drains: connections are closed after their current
    /// request, or their next one.
    pub(crate) closing: Cell<bool>,
    /// Until when, since the reactor started, a next request is waited for where it is closing. A client
    /// that sends one in the moment in which its connection is closed would see it fail.
    pub(crate) idle_until: Cell<Duration>,
    /// How it serves; what it was last where it is closing.
    serving: RefCell<Rc<Serving>>,
    /// What backends are told of it, as last asked for.
    lines: RefCell<Option<(Scheme, u16, Rc<str>)>>,
    shared: Arc<ListenerShared>,
}

impl Listener {
    pub(crate) fn new(shared: Arc<ListenerShared>, serving: &Serving) -> Self {
        let serving = RefCell::new(Rc::new(serving.clone()));
        let idle_until = Cell::new(Duration::MAX);
        let (bound, closing, lines) = (shared.bound, Cell::new(false), RefCell::new(None));
        Self { bound, closing, idle_until, serving, lines, shared }
    }

    /// From now on it serves so.
    pub(crate) fn follow(&self, serving: &Serving) {
        *self.serving.borrow_mut() = Rc::new(serving.clone());
    }

    pub(crate) fn serving(&self) -> Rc<Serving> {
        Rc::clone(&self.serving.borrow())
    }

    /// What backends are told of clients that reached us at this port.
    pub(crate) fn lines(&self, scheme: Scheme, port: u16) -> Rc<str> {
        let mut last = self.lines.borrow_mut();
        match &*last {
            Some((of_scheme, of_port, lines)) if (*of_scheme, *of_port) == (scheme, port) => {
                Rc::clone(lines)
            }
            _ => {
                let lines = listener_lines(scheme, port);
                *last = Some((scheme, port, Rc::clone(&lines)));
                lines
            }
        }
    }

    pub(crate) fn policy(&self) -> ListenerPolicy {
        self.serving.borrow().policy
    }
}

/// Accepts connections until the task is ended.
pub(crate) async fn accept(reactor: Rc<Reactor>, listener: Rc<Listener>, socket: Rc<Acceptor>) {
    loop {
        match poll_fn(|context| socket.poll_accept(context)).await {
            Ok((accepted, peer)) => admit(&reactor, &listener, accepted, peer),
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(listener = %listener.bound, "accept: {error}");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            // The client gave up while it waited in the queue.
            Err(_) => {}
        }
    }
}

/// Accepts what waits in the queue already: closing the socket would reset it.
pub(crate) fn accept_rest(reactor: &Rc<Reactor>, listener: &Rc<Listener>, socket: &Acceptor) {
    // Past the runtime, which lets a task have only so much at a time.
    loop {
        match socket.accept() {
            Ok((accepted, peer)) => admit(reactor, listener, accepted, peer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

fn admit(reactor: &Rc<Reactor>, listener: &Rc<Listener>, socket: Socket, peer: SocketAddr) {
    reactor.counters.connections.add(1);
    let open = OpenConnection::new(reactor, listener);
    if open.count > listener.policy().limits.connections {
        reactor.counters.refused(Refusal::TooManyConnections);
        return;
    }
    let is_any = listener.bound.ip().is_unspecified();
    let local = match is_any || listener.shared.serves_others.load(Ordering::Relaxed) {
        true => socket.local_addr().unwrap_or(listener.bound),
        false => listener.bound,
    };
    let (reactor, listener) = (Rc::clone(reactor), Rc::clone(listener));
    spawn_local(connection::serve(reactor, listener, socket, (peer, local), open));
}

/// Counts a connection while it is open.
struct OpenConnection {
    reactor: Rc<Reactor>,
    shared: Arc<ListenerShared>,
    /// Open connections of the listener, with this one.
    count: u32,
}

impl OpenConnection {
    fn new(reactor: &Rc<Reactor>, listener: &Listener) -> Self {
        let shared = Arc::clone(&listener.shared);
        let count = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        reactor.count_open(reactor.open.get() + 1);
        Self { reactor: Rc::clone(reactor), shared, count }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.reactor.count_open(self.reactor.open.get() - 1);
        if self.reactor.open.get() == 0 {
            self.reactor.idle.notify_waiters();
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the queue and would be tried forever.
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}
