//! Memory of connections that had one answer and are kept.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::{ClientConfig, Stream};

use crate::http::scenario::Scenario;
use crate::process::Server;
use crate::tools::{socket, tls};

/// Connections that warm a proxy up before its memory is read.
const WARM: u32 = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often progress is told.
const TOLD_EACH: u32 = 2_500;

/// Growth of a proxy's memory, in bytes a connection.
pub(crate) fn bytes_a_connection(
    scenario: &Scenario,
    server: &Server,
    cert: &Path,
    count: u32,
) -> Result<f64> {
    let config = scenario.is_secure().then(|| tls::client(cert, b"http/1.1", false)).transpose()?;
    let open = |_| kept(scenario, server.address(), config.as_ref());
    let warm = (0..WARM).map(open).collect::<Result<Vec<_>>>()?;
    let before = server.memory()?;
    let mut connections = Vec::new();
    for number in 0..count {
        if number % TOLD_EACH == 0 {
            eprintln!("bench: {number} of {count} connections");
        }
        connections.push(open(number).with_context(|| format!("connection {number}"))?);
    }
    let after = server.memory()?;
    for connection in connections.iter().chain(&warm) {
        ensure!(is_open(connection)?, "a connection was closed while idle");
    }
    Ok((after - before) / f64::from(count))
}

/// A connection that had an answer.
fn kept(
    scenario: &Scenario,
    address: SocketAddr,
    config: Option<&Arc<ClientConfig>>,
) -> Result<TcpStream> {
    let mut socket = socket::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", scenario.path, tls::HOST);
    if let Some(config) = config {
        let mut session = tls::connection(config)?;
        ask(&mut Stream::new(&mut session, &mut socket), &request, scenario.body_size)?;
    } else {
        ask(&mut socket, &request, scenario.body_size)?;
    }
    Ok(socket)
}

fn ask(stream: &mut (impl Read + Write), request: &str, body_size: usize) -> Result<()> {
    stream.write_all(request.as_bytes()).context("send a request")?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| answer.len() >= head + 4 + body_size) {
            break;
        }
        let count = stream.read(&mut buffer).context("read an answer")?;
        ensure!(count > 0, "a connection was closed before its answer");
        answer.extend_from_slice(&buffer[..count]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "an answer that is not 200");
    Ok(())
}

/// Tickets may have come since; an end may not.
fn is_open(mut socket: &TcpStream) -> Result<bool> {
    socket.set_nonblocking(true)?;
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Ok(error.kind() == ErrorKind::WouldBlock),
        }
    }
}
