//! Where connections go that are only bytes from here on: to threads that splice them.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::buffer::Buffer;
use crate::stream::Stream;
use crate::timers::Timer;
use crate::tunnel::{self, End, Side};

/// Two connections whose bytes are each other's.
pub struct Pair {
    /// The client's, non-blocking.
    pub client: TcpStream,
    /// The backend's, non-blocking.
    pub backend: TcpStream,
    /// What was read from the client already.
    pub to_backend: Vec<u8>,
    /// What was read from the backend already.
    pub to_client: Vec<u8>,
    /// How long neither side may say anything.
    pub idle: Duration,
    /// Told once both connections are closed.
    pub on_end: Box<dyn FnOnce() + Send>,
}

/// Takes pairs over.
#[derive(Clone)]
pub struct Outlet(Arc<dyn Fn(Pair) + Send + Sync>);

impl Outlet {
    /// Pairs are handed to `relay`, which must not wait.
    #[must_use]
    pub fn new(relay: impl Fn(Pair) + Send + Sync + 'static) -> Self {
        Self(Arc::new(relay))
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outlet")
    }
}

/// One side, with what was read from it already.
pub(crate) struct Half {
    pub(crate) stream: Stream,
    pub(crate) read: Buffer,
}

/// Passes bytes both ways until both sides have ended: on the threads of the outlet where both are plain
/// sockets, else here.
pub(crate) async fn run(
    outlet: &Outlet,
    mut client: Half,
    mut backend: Half,
    timer: &Timer,
    idle: Duration,
) {
    let (client_stream, backend_stream) = match (client.stream, backend.stream) {
        (Stream::Plain(client_socket), Stream::Plain(backend_socket)) => {
            let sockets = (client_socket.into_std(), backend_socket.into_std());
            let (Ok(client_socket), Ok(backend_socket)) = sockets else { return };
            let (ended, end) = oneshot::channel();
            (outlet.0)(Pair {
                client: client_socket,
                backend: backend_socket,
                to_backend: client.read.data().to_vec(),
                to_client: backend.read.data().to_vec(),
                idle,
                on_end: Box::new(move || {
                    let _ = ended.send(());
                }),
            });
            drop((client.read, backend.read));
            let _ = end.await;
            return;
        }
        others => others,
    };
    let from_client = Side { stream: &client_stream, read: &mut client.read };
    let from_backend = Side { stream: &backend_stream, read: &mut backend.read };
    match tunnel::run(from_client, from_backend, timer, idle).await {
        End::Finished | End::Idle => {
            client_stream.close();
            backend_stream.close();
        }
        End::Broken => {
            client_stream.reset();
            backend_stream.reset();
        }
    }
}
