//! A pair that is being relayed: two sockets and two directions.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use crate::direction::{Broken, Direction, Tools, Turn};
use crate::relay::{End, Ended, Pair};

/// The side that a socket belongs to; also the lowest bit of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

/// What the kernel told of one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News {
    pub(crate) side: Side,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) read_closed: bool,
    pub(crate) error: bool,
}

/// A pair on its thread.
pub(crate) struct Link {
    pub(crate) client: mio::net::TcpStream,
    pub(crate) backend: mio::net::TcpStream,
    to_backend: Direction,
    to_client: Direction,
    /// A socket with an error that reading may not come to see.
    suspect: Option<Side>,
    on_end: Box<dyn FnOnce(Ended) + Send>,
}

/// What has become of a pair for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waits,
    /// It has more to move now.
    Again,
    Ended(End),
}

impl Link {
    /// Takes a pair over; gives its teller back where a socket cannot be used.
    pub(crate) fn new(pair: Pair) -> Result<(Self, Duration), Unusable> {
        let Pair { client, backend, to_backend, to_client, idle, on_end } = pair;
        let (client, backend) = match (prepare(client), prepare(backend)) {
            (Ok(client), Ok(backend)) => (client, backend),
            (Err(error), _) | (_, Err(error)) => return Err(Unusable { error, on_end }),
        };
        let (to_backend, to_client) = (Direction::new(to_backend), Direction::new(to_client));
        let link = Self { client, backend, to_backend, to_client, suspect: None, on_end };
        Ok((link, idle))
    }

    /// Ends it before it has begun.
    pub(crate) fn unusable(self, error: io::Error) -> Unusable {
        Unusable { error, on_end: self.on_end }
    }

    /// Takes down what the kernel told; the next turn acts on it.
    pub(crate) fn note(&mut self, news: News) {
        let (reading, writing) = match news.side {
            Side::Client => (&mut self.to_backend, &mut self.to_client),
            Side::Backend => (&mut self.to_client, &mut self.to_backend),
        };
        reading.source_ready |= news.readable || news.read_closed;
        reading.source_closed |= news.read_closed;
        writing.sink_ready |= news.writable;
        if news.error {
            reading.source_ready = true;
            reading.source_closed = true;
            self.suspect = Some(news.side);
        }
    }

    /// Moves what can be moved now, in both directions.
    pub(crate) fn turn(&mut self, tools: &mut Tools) -> State {
        let Self { client, backend, to_backend, to_client, .. } = self;
        let forth = match to_backend.turn(client, backend, tools) {
            Ok(turn) => turn,
            Err(Broken::Source) => return State::Ended(End::ClientReset),
            Err(Broken::Sink) => return State::Ended(End::BackendReset),
        };
        let back = match to_client.turn(backend, client, tools) {
            Ok(turn) => turn,
            Err(Broken::Source) => return State::Ended(End::BackendReset),
            Err(Broken::Sink) => return State::Ended(End::ClientReset),
        };
        match (forth, back) {
            (Turn::Shut, Turn::Shut) => State::Ended(End::Finished),
            (Turn::Again, _) | (_, Turn::Again) => State::Again,
            _ => self.examine(),
        }
    }

    /// A socket that broke while the other side takes nothing is not read, and would go unnoticed.
    fn examine(&mut self) -> State {
        let (socket, end) = match self.suspect.take() {
            None => return State::Waits,
            Some(Side::Client) => (&self.client, End::ClientReset),
            Some(Side::Backend) => (&self.backend, End::BackendReset),
        };
        match socket.take_error() {
            Ok(None) => State::Waits,
            Ok(Some(_)) | Err(_) => State::Ended(end),
        }
    }

    /// Bytes moved since the beginning.
    pub(crate) fn moved(&self) -> u64 {
        self.to_backend.moved + self.to_client.moved
    }

    /// Closes both sockets. Where the other side could take it for a proper end and it is none, it
    /// sees a reset.
    pub(crate) fn end(mut self, how: End, tools: &mut Tools) {
        let cut = match how {
            End::Finished => false,
            End::ClientReset | End::BackendReset | End::Failed => true,
            End::IdleTimeout | End::Drained => {
                self.to_backend.is_loaded() || self.to_client.is_loaded()
            }
        };
        if cut {
            // One of them is broken already, and then this says so.
            let _ = weir_net::reset_on_close(&self.client);
            let _ = weir_net::reset_on_close(&self.backend);
        }
        self.to_backend.let_go(tools);
        self.to_client.let_go(tools);
        let ended =
            Ended { to_backend: self.to_backend.moved, to_client: self.to_client.moved, how };
        let Self { client, backend, on_end, .. } = self;
        drop((client, backend));
        on_end(ended);
    }
}

/// A pair that was not taken over.
pub(crate) struct Unusable {
    pub(crate) error: io::Error,
    pub(crate) on_end: Box<dyn FnOnce(Ended) + Send>,
}

fn prepare(socket: TcpStream) -> io::Result<mio::net::TcpStream> {
    socket.set_nonblocking(true)?;
    // Messages go on as they come. Not every socket can be told so, and it is only slower then.
    let _ = socket.set_nodelay(true);
    Ok(mio::net::TcpStream::from_std(socket))
}
