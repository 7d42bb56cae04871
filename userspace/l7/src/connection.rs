//! A client connection before its first request: who it is, how it is encrypted, what it speaks.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use tokio::net::TcpStream;
use weir_model::Serves;
use weir_net::{Alpn, TlsStream};

use crate::buffer::Buffer;
use crate::client;
use crate::forwarded::{ClientSide, Scheme};
use crate::http2;
use crate::io::{IoError, Wait, read};
use crate::listener::Listener;
use crate::reactor::Reactor;
use crate::refusal::Refusal;
use crate::snapshot::Serving;
use crate::stream::Stream;
use crate::timers::Timer;

/// What opens a connection of HTTP/2 (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose client and protocol are known.
pub(crate) struct Arrived {
    pub(crate) stream: Stream,
    pub(crate) side: ClientSide,
    /// What was read already.
    pub(crate) input: Buffer,
}

/// Serves a connection until it is closed.
pub(crate) async fn serve(
    reactor: Rc<Reactor>,
    listener: Rc<Listener>,
    socket: TcpStream,
    peer: SocketAddr,
) {
    let Some(serving) = reactor.snapshot().listener(listener.configured).cloned() else { return };
    let timer = reactor.timers.timer();
    timer.arm(serving.policy.timeouts.header);
    let (http1, http2) = match serving.serves {
        Serves::Http { http1, http2 } => (http1, http2),
        Serves::Tcp { .. } | Serves::TlsPassthrough => (true, false),
    };
    let mut input = reactor.buffers.buffer();
    let scheme = if serving.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let Ok((stream, alpn)) = encrypt(socket, &serving, &timer).await else {
        return reactor.counters.refused(Refusal::TlsHandshake);
    };
    let speaks_http2 = match (alpn, http1, http2) {
        // A client without ALPN can only know beforehand that nothing else is spoken here.
        (Some(_), false, true) => true,
        (Some(alpn), ..) => alpn == Alpn::Http2,
        (None, true, true) => match has_preface(&stream, &mut input, &timer).await {
            Ok(has_preface) => has_preface,
            Err(_) => return,
        },
        (None, _, http2) => http2,
    };
    drop(timer);
    let side = ClientSide::new(peer, listener.bound, scheme);
    let arrived = Arrived { stream, side, input };
    if speaks_http2 {
        http2::serve(reactor, listener, arrived).await;
    } else {
        client::serve(reactor, listener, arrived).await;
    }
}

/// Shakes hands where the listener speaks TLS; then ALPN has decided on a protocol.
async fn encrypt(
    socket: TcpStream,
    serving: &Serving,
    timer: &Timer,
) -> Result<(Stream, Option<Alpn>), IoError> {
    let Some(config) = &serving.tls else { return Ok((socket.into(), None)) };
    let tls = TlsStream::server(socket, config).map_err(|_| IoError::Closed)?;
    crate::io::within(timer, tls.handshake()).await?.map_err(|_| IoError::Closed)?;
    let alpn = tls.alpn();
    Ok((Stream::Tls(tls), Some(alpn)))
}

/// Whether the client begins as one of HTTP/2 does; reads no more than it takes to tell.
async fn has_preface(stream: &Stream, input: &mut Buffer, timer: &Timer) -> Result<bool, IoError> {
    poll_fn(|context| {
        timer.register(context);
        match (stream.poll_readable(context), timer.fired()) {
            (Poll::Ready(()), _) => Poll::Ready(Ok(())),
            (Poll::Pending, true) => Poll::Ready(Err(IoError::TimedOut)),
            (Poll::Pending, false) => Poll::Pending,
        }
    })
    .await?;
    loop {
        let count = read(stream, input.space(), timer, Wait::Armed).await?;
        input.filled(count);
        let data = input.data();
        let compared = data.len().min(HTTP2_PREFACE.len());
        let same = data.get(..compared) == HTTP2_PREFACE.get(..compared);
        if !same || compared == HTTP2_PREFACE.len() || count == 0 {
            return Ok(same && count > 0);
        }
    }
}
