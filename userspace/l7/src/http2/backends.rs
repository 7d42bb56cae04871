//! Connections of HTTP/2 to backends, shared by the requests of one reactor.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::{
    BACKEND_CONNECTION_WINDOW, BACKEND_STREAM_WINDOW, SEND_BUFFER_MAX, STREAMS_MAX, client,
};
use crate::attempts::wait_for;
use crate::deferred::Deferred;
use crate::pipe::pipe;
use crate::pool::PoolKey;
use crate::reactor::Reactor;
use crate::refusal::Refusal;
use crate::snapshot::Service;
use crate::stream::Stream;

/// Bytes of the head of an answer.
const HEAD_SIZE_MAX: u32 = 64 * 1024;

/// The open connections of a reactor.
#[derive(Default)]
pub(crate) struct Backends(RefCell<HashMap<PoolKey, Rc<Connections>>>);

#[derive(Default)]
struct Connections {
    open: RefCell<Vec<Connection>>,
    /// Held while one is opened, so that requests that come together share it.
    opening: Mutex<()>,
}

#[derive(Clone)]
struct Connection {
    send: SendRequest<Bytes>,
    streams: Rc<Cell<usize>>,
    nature: Rc<Nature>,
}

/// What a connection is like, besides what `h2` knows of it.
pub(super) struct Nature {
    /// What requests on it have as their scheme.
    pub(super) scheme: &'static str,
    /// To find out whether the backend's settings have arrived; gone when they have.
    ping: Mutex<Option<PingPong>>,
}

impl Nature {
    /// Waits for the backend's settings: it sends them first, so they are there when a ping is answered.
    pub(super) async fn settled(&self) {
        let mut ping = self.ping.lock().await;
        if let Some(pings) = &mut *ping {
            // One that failed has ended the connection, and with it whoever asks.
            let _ = pings.ping(Ping::opaque()).await;
            *ping = None;
        }
    }
}

impl Backends {
    /// A stream to a backend, as a connection that speaks HTTP/1.1; `connect` opens what carries it.
    pub(crate) async fn stream(
        &self,
        reactor: &Reactor,
        service: &Service,
        key: PoolKey,
        connect: impl Future<Output = Result<Stream, Refusal>>,
    ) -> Result<Stream, Refusal> {
        let connections = Rc::clone(self.0.borrow_mut().entry(key).or_default());
        if let Some(connection) = connections.free() {
            return Ok(connection.stream(reactor));
        }
        let _opening = connections.opening.lock().await;
        if let Some(connection) = connections.free() {
            return Ok(connection.stream(reactor));
        }
        let upstream = &service.upstream;
        let slot = wait_for(reactor, service, || upstream.try_connection()).await?;
        let io = connect.await?;
        let scheme = if matches!(io, Stream::Tls(_)) { "https" } else { "http" };
        let io = Deferred::new(io, reactor.buffers.buffer(), Rc::clone(&reactor.flusher));
        let (send, mut connection) =
            builder().handshake(io).await.map_err(|_| Refusal::ConnectFailed)?;
        let nature = Nature { scheme, ping: Mutex::new(connection.ping_pong()) };
        spawn_local(async move {
            // Whoever has a stream on it hears of its end there.
            let _ = connection.await;
            drop(slot);
        });
        let connection = Connection { send, streams: Rc::default(), nature: Rc::new(nature) };
        connections.open.borrow_mut().push(connection.clone());
        Ok(connection.stream(reactor))
    }

    /// Forgets connections that are closed or nobody uses; called now and then.
    pub(crate) fn prune(&self, is_known: impl Fn(PoolKey) -> bool) {
        self.0.borrow_mut().retain(|&key, connections| {
            connections.open.borrow_mut().retain(Connection::is_open);
            is_known(key) || !connections.open.borrow().is_empty()
        });
        // Of a backend that is gone, what is open is closed once nobody uses it.
        for (&key, connections) in &*self.0.borrow() {
            if !is_known(key) {
                connections.open.borrow_mut().retain(|open| open.streams.get() > 0);
            }
        }
    }
}

impl Connections {
    fn free(&self) -> Option<Connection> {
        let mut open = self.open.borrow_mut();
        open.retain(Connection::is_open);
        open.iter().find(|connection| connection.has_room()).cloned()
    }
}

impl Connection {
    fn is_open(&self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut send = self.send.clone();
        !matches!(send.poll_ready(&mut context), std::task::Poll::Ready(Err(_)))
    }

    fn has_room(&self) -> bool {
        let max = self.send.current_max_send_streams().min(STREAMS_MAX as usize);
        self.streams.get() < max
    }

    fn stream(&self, reactor: &Reactor) -> Stream {
        let (ours, theirs) = pipe();
        self.streams.set(self.streams.get() + 1);
        let (send, streams) = (self.send.clone(), Rc::clone(&self.streams));
        let (nature, buffer) = (Rc::clone(&self.nature), reactor.buffers.buffer());
        spawn_local(async move {
            client::serve(send, ours, buffer, &nature).await;
            streams.set(streams.get() - 1);
        });
        Stream::Pipe(theirs)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(BACKEND_STREAM_WINDOW)
        .initial_connection_window_size(BACKEND_CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_header_list_size(HEAD_SIZE_MAX);
    builder
}
