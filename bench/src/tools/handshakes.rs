//! A TLS connection a request, as often as it goes.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, Stream};

use crate::tools::socket::connect;
use crate::tools::{Aim, tls};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    aim: Aim,
    /// Resume with a ticket of the connection before
    #[arg(long)]
    resumed: bool,
}

/// A thread for each connection that is under way.
pub(crate) fn run(Options { aim, resumed }: &Options) -> Result<()> {
    let deadline = Instant::now() + aim.length();
    let count = std::thread::scope(|scope| {
        let clients = (0..aim.connections).map(|_| scope.spawn(|| client(aim, *resumed, deadline)));
        let clients: Vec<_> = clients.collect();
        let counts = clients.into_iter().map(|client| {
            client.join().unwrap_or_else(|_| bail!("a thread of the client panicked"))
        });
        counts.sum::<Result<u64>>()
    })?;
    println!("{count}");
    Ok(())
}

/// Connections that were answered in time.
fn client(aim: &Aim, resumed: bool, deadline: Instant) -> Result<u64> {
    let config = tls::client(&aim.cert, b"http/1.1", resumed)?;
    if resumed {
        // The first brings the tickets.
        exchange(aim, &config)?;
    }
    let mut count = 0;
    while Instant::now() < deadline {
        let kind = exchange(aim, &config)?;
        ensure!(
            resumed == (kind == HandshakeKind::Resumed),
            "asked for {} handshakes, got a {kind:?} one",
            if resumed { "resumed" } else { "full" }
        );
        count += u64::from(Instant::now() < deadline);
    }
    Ok(count)
}

/// Connects, asks, reads until the proxy closes.
fn exchange(aim: &Aim, config: &Arc<ClientConfig>) -> Result<HandshakeKind> {
    let (mut socket, mut session) = (connect(aim.address)?, tls::connection(config)?);
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = Stream::new(&mut session, &mut socket);
    let request =
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", aim.path, tls::HOST);
    stream.write_all(request.as_bytes()).context("send a request over TLS")?;
    let mut answer = Vec::with_capacity(2048);
    read_to_end(&mut stream, &mut answer).context("read an answer over TLS")?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "an answer that is not 200");
    session.handshake_kind().context("no handshake")
}

/// Until the end, told by TLS or only by TCP.
pub(crate) fn read_to_end(
    stream: &mut Stream<'_, ClientConnection, std::net::TcpStream>,
    answer: &mut Vec<u8>,
) -> std::io::Result<()> {
    match stream.read_to_end(answer) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
        done => done.map(|_| ()),
    }
}
