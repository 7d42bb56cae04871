//! A target that answers something else than the origin would be measured on something else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::Stream;

use crate::http::scenario::{Method, Origin, Scenario, Speaks};
use crate::tools::handshakes::read_to_end;
use crate::tools::tls;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are echoed.
const ECHO: [u8; 64] = [b'x'; 64];
/// How much of a wrong answer is told.
const TOLD_MAX: usize = 300;

/// Asks once, and compares.
pub(crate) fn answer(scenario: &Scenario, address: SocketAddr, cert: &Path) -> Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let request = request(scenario);
    let mut answer = Vec::new();
    match scenario.speaks {
        Speaks::Tcp => return relayed(scenario, &mut socket),
        // What h2load gets is compared by size.
        Speaks::Http2 => return http2(socket, cert),
        Speaks::Http => {
            socket.write_all(request.as_bytes())?;
            socket.read_to_end(&mut answer)?;
        }
        Speaks::Tls => {
            let mut session = tls::connection(&tls::client(cert, b"http/1.1", false)?)?;
            let mut stream = Stream::new(&mut session, &mut socket);
            stream.write_all(request.as_bytes()).context("ask over TLS 1.3")?;
            read_to_end(&mut stream, &mut answer)?;
        }
    }
    compare(scenario, &answer)
}

fn request(Scenario { path, method, .. }: &Scenario) -> String {
    let host = if path.starts_with("/p") { "h0.bench.test" } else { tls::HOST };
    let head = format!("{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    match method {
        Method::Get => format!("GET {head}\r\n"),
        Method::Post => format!("POST {head}Content-Length: 1\r\n\r\nx"),
    }
}

fn compare(scenario: &Scenario, answer: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let head = head.to_ascii_lowercase();
    let is_chunked = head.contains("transfer-encoding: chunked");
    let size = if is_chunked { unchunked(body) } else { Some(body.len()) };
    let has_fields = scenario.origin != Origin::Headers || head.contains("\nx-answer-25:");
    if !head.starts_with("http/1.1 200") || size != Some(scenario.body_size) || !has_fields {
        let told: String = text.chars().take(TOLD_MAX).collect();
        bail!("answers something else than the origin: {told}");
    }
    Ok(())
}

/// Bytes in all chunks.
fn unchunked(mut body: &str) -> Option<usize> {
    let mut whole = 0;
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole += size;
        body = rest.get(size + 2..)?;
    }
}

fn http2(mut socket: TcpStream, cert: &Path) -> Result<()> {
    let mut session = tls::connection(&tls::client(cert, b"h2", false)?)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket).context("offer HTTP/2 over TLS 1.3")?;
    }
    ensure!(session.alpn_protocol() == Some(b"h2"), "does not speak HTTP/2");
    Ok(())
}

fn relayed(scenario: &Scenario, socket: &mut TcpStream) -> Result<()> {
    let mut answer = [0; ECHO.len()];
    if scenario.origin == Origin::Stream {
        socket.write_all(&(ECHO.len() as u64).to_le_bytes())?;
    } else {
        socket.write_all(&ECHO)?;
    }
    socket.read_exact(&mut answer).context("wait for bytes through the relay")?;
    ensure!(answer == ECHO, "relays other bytes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks() {
        for (body, expected) in [
            ("2\r\nxx\r\n1\r\nx\r\n0\r\n\r\n", Some(3)),
            ("0\r\n\r\n", Some(0)),
            ("2\r\nxx\r\n", None),
            ("", None),
        ] {
            assert_eq!(unchunked(body), expected, "{body:?}");
        }
    }
}
