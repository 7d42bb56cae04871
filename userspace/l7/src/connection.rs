//! A client connection before its first request: who it is, how it is encrypted, what it speaks.

use std::net::SocketAddr;
use std::rc::Rc;

use weir_model::Serves;
use weir_net::{Alpn, TlsStream, proxy_protocol};

use crate::buffer::Buffer;
use crate::client::{self, Client};
use crate::forwarded::{ClientSide, Scheme};
use crate::http2;
use crate::io::{IoError, Wait, fill, read, within};
use crate::listener::Listener;
use crate::reactor::Reactor;
use crate::refusal::Refusal;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::tcp;
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

/// Serves a connection until it is closed, and holds `open` as long. No `async fn`, whose future would hold
/// on to the other arguments, too.
pub(crate) fn serve<T>(
    reactor: Rc<Reactor>,
    listener: Rc<Listener>,
    socket: Socket,
    (peer, local): (SocketAddr, SocketAddr),
    open: T,
) -> impl Future<Output = ()> {
    // What goes before the first request is needed once, and takes up more than what follows.
    let begun = Box::pin(begin(reactor, listener, socket, Ends { client: peer, local }));
    async move {
        if let Some(client) = begun.await {
            client::run(client).await;
        }
        drop(open);
    }
}

/// Finds out what is spoken, and serves it; a client of HTTP/1.1 is left to be served.
async fn begin(
    reactor: Rc<Reactor>,
    listener: Rc<Listener>,
    socket: Socket,
    ends: Ends,
) -> Option<Box<Client>> {
    let serving = listener.serving();
    let timer = reactor.timers.timer();
    timer.arm(serving.policy.timeouts.header);
    let mut arrived = match arrive(&reactor, &listener, socket, ends, &timer).await {
        Ok(arrived) => arrived,
        Err(refusal) => {
            reactor.counters.refused(refusal);
            return None;
        }
    };
    match serving.serves {
        Serves::Tcp { service } => Box::pin(tcp::serve(reactor, arrived, service)).await,
        Serves::TlsPassthrough => Box::pin(tcp::serve_by_name(reactor, arrived, &timer)).await,
        Serves::Http { http1, http2 } => {
            if speaks_http2(&mut arrived, (http1, http2), &timer).await.ok()? {
                Box::pin(http2::serve(reactor, listener, arrived)).await;
            } else {
                return Some(Client::new(reactor, listener, arrived, None));
            }
        }
    }
    None
}

/// By ALPN where there is TLS, else by how the client begins where both are served.
async fn speaks_http2(
    arrived: &mut Arrived,
    serves: (bool, bool),
    timer: &Timer,
) -> Result<bool, IoError> {
    match (&arrived.stream, serves) {
        // A client without ALPN can only know beforehand that nothing else is spoken here.
        (Stream::Tls(_), (false, true)) => Ok(true),
        (Stream::Tls(tls), _) => Ok(tls.alpn() == Alpn::Http2),
        (_, (true, true)) => has_preface(&arrived.stream, &mut arrived.input, timer).await,
        (_, (_, http2)) => Ok(http2),
    }
}

/// The two ends of a connection, as far as is known.
#[derive(Clone, Copy)]
struct Ends {
    client: SocketAddr,
    local: SocketAddr,
}

/// What goes before every protocol: who the client is, and the handshake of TLS.
async fn arrive(
    reactor: &Reactor,
    listener: &Listener,
    socket: Socket,
    mut ends: Ends,
    timer: &Timer,
) -> Result<Arrived, Refusal> {
    let serving = listener.serving();
    let mut input = reactor.buffers.buffer();
    let stream = Stream::Plain(socket);
    if serving.proxy_protocol {
        ends = read_proxy_header(&stream, &mut input, ends, timer).await?;
    }
    let scheme = if serving.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let lines = listener.lines(scheme, ends.local.port());
    let mut side = ClientSide::new(ends.client, ends.local, scheme, lines);
    let stream = match (&serving.tls, stream) {
        (Some(config), stream @ Stream::Plain(_)) => {
            // Clients are accepted once they have spoken: their hello is there before anybody waits for it.
            if input.is_empty() {
                fill(&stream, &mut input, timer, Wait::Armed)
                    .await
                    .map_err(|_| Refusal::TlsHandshake)?;
            }
            let Stream::Plain(socket) = stream else { return Err(Refusal::TlsHandshake) };
            let ahead = input.data().to_vec();
            input.consume(ahead.len());
            input.release();
            let socket = socket.into_driven().map_err(|_| Refusal::TlsHandshake)?;
            let tls =
                TlsStream::server(socket, config, ahead).map_err(|_| Refusal::TlsHandshake)?;
            let shaken = within(timer, std::pin::pin!(tls.handshake())).await;
            shaken.map_err(|_| Refusal::TlsHandshake)?.map_err(|_| Refusal::TlsHandshake)?;
            side.server_name = tls.server_name().map(Into::into);
            Stream::Tls(tls)
        }
        (_, stream) => stream,
    };
    Ok(Arrived { stream, side, input })
}

/// Who the client is, in the words of the proxy before us. What follows the header is left in `input`.
async fn read_proxy_header(
    stream: &Stream,
    input: &mut Buffer,
    ends: Ends,
    timer: &Timer,
) -> Result<Ends, Refusal> {
    loop {
        match proxy_protocol::parse(input.data()).map_err(|_| Refusal::ProxyHeader)? {
            Some((header, length)) => {
                input.consume(length);
                // A proxy that checks on us speaks for itself.
                return Ok(header.addresses.map_or(ends, |addresses| Ends {
                    client: addresses.source,
                    local: addresses.destination,
                }));
            }
            None => match read(stream, input.space(), timer, Wait::Armed).await {
                Ok(count) if count > 0 => input.filled(count),
                _ => return Err(Refusal::ProxyHeader),
            },
        }
    }
}

/// Whether the client begins as one of HTTP/2 does; reads no more than it takes to tell.
async fn has_preface(stream: &Stream, input: &mut Buffer, timer: &Timer) -> Result<bool, IoError> {
    loop {
        let data = input.data();
        let compared = data.len().min(HTTP2_PREFACE.len());
        let same = data.get(..compared) == HTTP2_PREFACE.get(..compared);
        if !same || compared == HTTP2_PREFACE.len() {
            return Ok(same);
        }
        let count = fill(stream, input, timer, Wait::Armed).await?;
        if count == 0 {
            return Ok(false);
        }
    }
}
