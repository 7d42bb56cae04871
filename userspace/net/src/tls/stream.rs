//! One TLS connection over a socket of the event loop, driven by whoever polls it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{Connection, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Alpn, ClientConfig, ServerConfig, broken};

/// Plain bytes that are encrypted before the socket has taken those before them: 16 records.
const WRITE_AHEAD_MAX: usize = 256 * 1024;
/// Bytes that are read from a socket in one call; on the stack, as nothing of it is kept.
const READ_SIZE: usize = 16 * 1024 + 512;

/// A TLS connection. Reading and writing take turns within one task: there is one of each at a time.
#[derive(Debug)]
pub struct TlsStream(RefCell<Inner>);

#[derive(Debug)]
struct Inner {
    socket: TcpStream,
    tls: Box<Connection>,
    /// Read from the socket and not yet taken by rustls, which takes no more than it may hold.
    ahead: Vec<u8>,
    /// Session tickets are to be sent, which nobody waits for: they go with what is written first.
    has_tickets: bool,
}

impl TlsStream {
    /// A connection to a client, before its handshake; `ahead` was read of it already.
    ///
    /// # Errors
    /// Never in practice: what rustls refuses of a configuration.
    pub fn server(socket: TcpStream, config: &ServerConfig, ahead: Vec<u8>) -> io::Result<Self> {
        let tls = rustls::ServerConnection::new(config.0.clone()).map_err(broken)?;
        Ok(Self::new(socket, tls.into(), ahead))
    }

    /// A connection to a backend, before its handshake.
    ///
    /// # Errors
    /// The socket is not connected any more.
    pub fn client(socket: TcpStream, config: &ClientConfig) -> io::Result<Self> {
        let name = config.name_of(socket.peer_addr()?.ip());
        let tls = rustls::ClientConnection::new(config.config.clone(), name).map_err(broken)?;
        Ok(Self::new(socket, tls.into(), Vec::new()))
    }

    fn new(socket: TcpStream, mut tls: Connection, ahead: Vec<u8>) -> Self {
        tls.set_buffer_limit(Some(WRITE_AHEAD_MAX));
        Self(RefCell::new(Inner { socket, tls: Box::new(tls), ahead, has_tickets: false }))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The peer closed, broke the protocol, or is not whom it should be; it was told why.
    pub async fn handshake(&self) -> io::Result<()> {
        poll_fn(|context| self.0.borrow_mut().poll_handshake(context)).await
    }

    /// What was negotiated.
    #[must_use]
    pub fn alpn(&self) -> Alpn {
        match self.0.borrow().tls.alpn_protocol() {
            Some(b"h2") => Alpn::Http2,
            _ => Alpn::Http1,
        }
    }

    /// The name that the client asked for, in lower case.
    #[must_use]
    pub fn server_name(&self) -> Option<String> {
        match &*self.0.borrow().tls {
            Connection::Server(tls) => tls.server_name().map(ToOwned::to_owned),
            Connection::Client(_) => None,
        }
    }

    /// Ready when there may be something to read, and then without having read it.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        // A request may come with the last words of the handshake.
        let nothing_waits = match inner.tls.reader().fill_buf() {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        };
        if nothing_waits && inner.ahead.is_empty() {
            inner.socket.poll_read_ready(context).map(drop)
        } else {
            Poll::Ready(())
        }
    }

    /// Reads plain bytes; 0 is the end that the peer told of.
    ///
    /// # Errors
    /// The connection broke; also where it ends without the peer having said so.
    pub fn poll_read(
        &self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_read(context, space)
    }

    /// Takes plain bytes of both slices, in this order, as many as may wait to be sent.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_write(
        &self,
        context: &mut Context<'_>,
        head: &[u8],
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if !std::mem::take(&mut inner.has_tickets) {
            ready!(inner.poll_flush(context))?;
        }
        let slices = [IoSlice::new(head), IoSlice::new(body)];
        let taken = inner.tls.writer().write_vectored(&slices)?;
        match inner.poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    /// Ready when the socket has taken all that was written.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(context)
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        inner.tls.send_close_notify();
        ready!(inner.poll_flush(context))?;
        Pin::new(&mut inner.socket).poll_shutdown(context)
    }

    /// Says that the connection ends here, as far as the socket takes that at once; then closes it.
    pub fn close(self) {
        let mut inner = self.0.into_inner();
        inner.tls.send_close_notify();
        // A peer that takes no more sees a cut.
        let _ = inner.answer();
    }

    /// Whether the peer has said nothing: neither bytes nor an end. Session tickets are no bytes.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut inner = self.0.borrow_mut();
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut byte = [0];
        inner.poll_read(&mut context, &mut byte).is_pending()
    }

    /// The socket, for its options.
    pub fn with_socket<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> T {
        look(&self.0.borrow().socket)
    }
}

impl Inner {
    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.has_tickets = self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
                && matches!(&*self.tls, Connection::Server(tls) if !tls.is_handshaking());
            if !self.has_tickets {
                ready!(self.poll_flush(context))?;
            }
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_fill(context))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.tls.reader().read(space) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
            let filled = self.poll_fill(context)?;
            if filled.is_pending() && !self.has_tickets {
                self.answer()?;
            }
            ready!(filled);
        }
    }

    /// Reads once from the socket and hands rustls what it takes; 0 is the end of the socket's stream.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            let taken = self.feed(&ahead)?;
            self.ahead = ahead.get(taken..).unwrap_or_default().to_vec();
            return Poll::Ready(Ok(taken));
        }
        let mut bytes = [std::mem::MaybeUninit::uninit(); READ_SIZE];
        let mut space = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut space))?;
        let read = space.filled();
        if read.is_empty() {
            // Told to rustls, whose reader then knows an end from a cut.
            self.tls.read_tls(&mut io::empty())?;
            self.process()?;
            return Poll::Ready(Ok(0));
        }
        let taken = self.feed(read)?;
        self.ahead.extend_from_slice(read.get(taken..).unwrap_or_default());
        Poll::Ready(Ok(read.len()))
    }

    /// How many of these bytes rustls took: not all where plain bytes wait to be read.
    fn feed(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() && self.tls.wants_read() {
            if self.tls.read_tls(&mut rest)? == 0 {
                break;
            }
            self.process()?;
        }
        Ok(bytes.len() - rest.len())
    }

    fn process(&mut self) -> io::Result<()> {
        match self.tls.process_new_packets() {
            Ok(_) => Ok(()),
            Err(error) => {
                // The alert that says why; as much of it as goes out at once.
                let _ = self.answer();
                Err(broken(error))
            }
        }
    }

    /// Sends answers to what the peer asks of TLS itself, if the socket takes them now. Whoever waits for
    /// the socket is the writer, maybe another task: it must go on being the one that is woken.
    fn answer(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut AtOnce(&self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut sink = Sink { socket: &mut self.socket, context };
            match self.tls.write_tls(&mut sink) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The socket as rustls writes to it.
struct Sink<'a, 'context> {
    socket: &'a mut TcpStream,
    context: &'a mut Context<'context>,
}

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = Pin::new(&mut *self.socket).poll_write(self.context, bytes);
        or_would_block(written)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = Pin::new(&mut *self.socket).poll_write_vectored(self.context, slices);
        or_would_block(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket for what it takes without anybody waiting for it.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_would_block(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
