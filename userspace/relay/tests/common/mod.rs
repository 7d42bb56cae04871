//! Pairs of real sockets on loopback.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use weir_relay::{Ended, Pair, RelayHandle};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// An idle time that no test comes to see.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Both ends of a connection.
pub(crate) fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    far.set_write_timeout(Some(PATIENCE)).unwrap();
    (far, near)
}

/// What the world sees of a relayed pair.
pub(crate) struct Relayed {
    pub(crate) client: TcpStream,
    pub(crate) backend: TcpStream,
    ended: Receiver<Ended>,
}

impl Relayed {
    pub(crate) fn start(relay: &RelayHandle, idle: Duration) -> Self {
        Self::start_with(relay, idle, b"", b"")
    }

    pub(crate) fn start_with(
        relay: &RelayHandle,
        idle: Duration,
        to_backend: &[u8],
        to_client: &[u8],
    ) -> Self {
        let (client, near_client) = connection();
        let (backend, near_backend) = connection();
        let (tell, ended) = channel();
        relay.relay(Pair {
            client: near_client,
            backend: near_backend,
            to_backend: to_backend.to_vec(),
            to_client: to_client.to_vec(),
            idle,
            on_end: Box::new(move |end| tell.send(end).unwrap_or_default()),
        });
        Self { client, backend, ended }
    }

    /// Waits for the end.
    pub(crate) fn ended(&self) -> Ended {
        self.ended.recv_timeout(PATIENCE).expect("the pair ends")
    }
}
