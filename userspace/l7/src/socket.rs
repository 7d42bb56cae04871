//! A TCP connection. The event loop hears of it only when there is something to wait for: one that is
//! accepted, read, answered and closed at once is never registered.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connection of this reactor. Both directions may be polled in turn, from one task.
#[derive(Debug)]
pub(crate) struct Socket(RefCell<State>);

#[derive(Debug)]
enum State {
    /// The event loop does not know of it.
    Bare(OwnedFd),
    Driven(TcpStream),
    /// It could not be registered.
    Lost,
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        Self(RefCell::new(State::Driven(socket)))
    }
}

impl Socket {
    /// A connection that was just accepted, non-blocking.
    pub(crate) fn accepted(socket: OwnedFd) -> Self {
        Self(RefCell::new(State::Bare(socket)))
    }

    /// Ready when there may be something to read.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match &*self.0.borrow() {
            State::Driven(socket) => socket.poll_read_ready(context).map(drop),
            // Who connects has something to say; whoever reads finds out.
            State::Bare(_) | State::Lost => Poll::Ready(()),
        }
    }

    /// Reads into `space`; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let size = space.len();
        self.poll_io(context, Interest::READABLE, |socket| {
            let (count, _) = rustix::net::recv(socket, &mut *space, RecvFlags::empty())?;
            // Less than was asked for is all there is.
            Ok(Moved { count, is_all: count < size })
        })
    }

    /// Writes what of `head` and then `body` the kernel takes.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        head: &[u8],
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(context, Interest::WRITABLE, |socket| {
            let count = match (head.is_empty(), body.is_empty()) {
                (false, false) => {
                    rustix::io::writev(socket, &[IoSlice::new(head), IoSlice::new(body)])?
                }
                (false, true) => rustix::net::send(socket, head, SendFlags::NOSIGNAL)?,
                (true, _) => rustix::net::send(socket, body, SendFlags::NOSIGNAL)?,
            };
            Ok(Moved { count, is_all: count < head.len() + body.len() })
        })
    }

    /// Does `io` when the kernel is ready for it, which says so by [`io::ErrorKind::WouldBlock`] if not.
    pub(crate) fn poll_io(
        &self,
        context: &mut Context<'_>,
        interest: Interest,
        mut io: impl FnMut(BorrowedFd<'_>) -> io::Result<Moved>,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        if let State::Bare(socket) = &*state {
            match io(socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => return Poll::Ready(moved.map(|moved| moved.count)),
            }
        }
        let socket = state.register()?;
        loop {
            ready!(if interest.is_readable() {
                socket.poll_read_ready(context)
            } else {
                socket.poll_write_ready(context)
            })?;
            let mut last = None;
            let moved = socket.try_io(interest, || match io(socket.as_fd())? {
                // The next one waits for the kernel, without trying in vain.
                Moved { count, is_all: true } if count > 0 => {
                    last = Some(count);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Moved { count, .. } => Ok(count),
            });
            match (moved, last) {
                (_, Some(count)) => return Poll::Ready(Ok(count)),
                (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {}
                (moved, None) => return Poll::Ready(moved),
            }
        }
    }

    /// Where the client has reached us.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with_fd(|socket| Ok(rustix::net::getsockname(socket)?.try_into()?))
    }

    /// Says that nothing more will be written.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.with_fd(|socket| Ok(rustix::net::shutdown(socket, Shutdown::Write)?))
    }

    /// Has the kernel reset the connection when it is closed.
    pub(crate) fn set_zero_linger(&self) -> io::Result<()> {
        let none = Some(std::time::Duration::ZERO);
        self.with_fd(|socket| Ok(sockopt::set_socket_linger(socket, none)?))
    }

    /// Whoever waits to read is woken when so many bytes are there, or the end.
    pub(crate) fn set_receive_low_water(&self, bytes: usize) -> io::Result<()> {
        self.with_fd(|socket| weir_net::set_receive_low_water(socket, bytes))
    }

    /// Whether nothing has arrived: neither the end of the stream nor bytes. The runtime has heard of it
    /// already, so nothing is asked of the kernel.
    pub(crate) fn is_quiet(&self) -> bool {
        let State::Driven(socket) = &*self.0.borrow() else { return false };
        let read = socket.try_read(&mut [0]);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The connection as the runtime has it.
    pub(crate) fn into_driven(self) -> io::Result<TcpStream> {
        let mut state = self.0.into_inner();
        state.register()?;
        match state {
            State::Driven(socket) => Ok(socket),
            State::Bare(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The connection without the runtime.
    pub(crate) fn into_std(self) -> io::Result<StdStream> {
        match self.0.into_inner() {
            State::Bare(socket) => Ok(socket.into()),
            State::Driven(socket) => socket.into_std(),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn with_fd<T>(&self, ask: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        match &*self.0.borrow() {
            State::Bare(socket) => ask(socket.as_fd()),
            State::Driven(socket) => ask(socket.as_fd()),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// What one call has moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) count: usize,
    /// Nothing more can be moved before the kernel says so.
    pub(crate) is_all: bool,
}

impl State {
    fn register(&mut self) -> io::Result<&TcpStream> {
        if let Self::Bare(_) = self
            && let Self::Bare(socket) = std::mem::replace(self, Self::Lost)
        {
            *self = Self::Driven(TcpStream::from_std(socket.into())?);
        }
        match self {
            Self::Driven(socket) => Ok(socket),
            Self::Bare(_) | Self::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
