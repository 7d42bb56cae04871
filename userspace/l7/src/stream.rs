//! A connection as an exchange sees it: bytes in, bytes out, whatever carries them.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use weir_net::TlsStream;

use crate::http2::Lane;
use crate::pipe::{PipeEnd, pipe};
use crate::socket::Socket;

/// One end of a connection. Both directions may be polled in turn, from one task.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(TlsStream),
    /// A connection in memory, as a stream of HTTP/2 to a backend that speaks HTTP/1.1 with us.
    Pipe(PipeEnd),
    /// Streams of an HTTP/2 client, one after the other, that speak HTTP/1.1 with us.
    Lane(Rc<Lane>),
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket.into())
    }
}

impl Stream {
    /// One that nobody holds the other end of.
    pub(crate) fn closed() -> Self {
        Self::Pipe(pipe().0)
    }

    /// Whether the kernel can move bytes to and from it that nobody looks at.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Ready when there may be something to read, without memory to read it to.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_readable(context),
            Self::Tls(tls) => tls.poll_readable(context),
            Self::Pipe(pipe) => pipe.poll_readable(context),
            Self::Lane(lane) => lane.poll_readable(context),
        }
    }

    /// Reads into `space`; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_read(context, space),
            Self::Tls(tls) => tls.poll_read(context, space),
            Self::Pipe(pipe) => pipe.poll_read(context, space),
            Self::Lane(lane) => lane.poll_read(context, space),
        }
    }

    /// Writes what of `head` and then `body` is taken.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        head: &[u8],
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write(context, head, body),
            Self::Tls(tls) => tls.poll_write(context, head, body),
            Self::Pipe(pipe) => pipe.poll_write(context, head, body),
            Self::Lane(lane) => lane.poll_write(context, head, body),
        }
    }

    /// Ready when the kernel has taken all that was written.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(tls) => tls.poll_flush(context),
            Self::Plain(_) | Self::Pipe(_) | Self::Lane(_) => Poll::Ready(Ok(())),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Poll::Ready(socket.shutdown()),
            Self::Tls(tls) => tls.poll_shutdown(context),
            Self::Pipe(pipe) => {
                pipe.shutdown();
                Poll::Ready(Ok(()))
            }
            Self::Lane(lane) => {
                lane.shutdown();
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Whether nothing has arrived: neither the end of the stream nor bytes that nobody asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Tls(tls) => tls.is_quiet(),
            // A stream of HTTP/2 serves one exchange.
            Self::Pipe(_) | Self::Lane(_) => false,
        }
    }

    /// Closes it so that nobody takes what was sent for the whole.
    pub(crate) fn reset(self) {
        match self {
            Self::Plain(socket) => drop(socket.set_zero_linger()),
            Self::Tls(tls) => drop(tls.with_socket(TcpStream::set_zero_linger)),
            Self::Pipe(pipe) => pipe.reset(),
            Self::Lane(lane) => lane.reset(),
        }
    }

    /// Closes it in order: over TLS, the peer is told that this is the end and no cut.
    pub(crate) fn close(self) {
        match self {
            Self::Tls(tls) => tls.close(),
            Self::Lane(lane) => lane.close(),
            Self::Plain(_) | Self::Pipe(_) => {}
        }
    }
}
