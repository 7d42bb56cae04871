//! Origins that nginx cannot be: chunked answers, echo, streams of bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};

/// Chunks of an answer.
const CHUNKS: usize = 8;
const BUFFER_SIZE: usize = 256 * 1024;

pub(crate) fn chunked(listen: SocketAddr, body_size: usize) -> Result<()> {
    let chunk = "x".repeat(body_size / CHUNKS);
    let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
    let head = "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{head}{}0\r\n\r\n", chunk.repeat(CHUNKS)).into_bytes();
    serve(listen, move |stream| {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..count]);
            // Requests have no body, and one is under way at a time.
            if request.ends_with(b"\r\n\r\n") {
                request.clear();
                stream.write_all(&answer)?;
            }
        }
    })
}

pub(crate) fn echo(listen: SocketAddr) -> Result<()> {
    serve(listen, |stream| {
        let mut buffer = vec![0; BUFFER_SIZE];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..count])?;
        }
    })
}

pub(crate) fn stream(listen: SocketAddr) -> Result<()> {
    serve(listen, |stream| {
        let (mut asked, bytes) = ([0; 8], vec![b'x'; BUFFER_SIZE]);
        loop {
            stream.read_exact(&mut asked)?;
            let mut left = usize::try_from(u64::from_le_bytes(asked)).unwrap_or(0);
            while left > 0 {
                let count = left.min(bytes.len());
                stream.write_all(&bytes[..count])?;
                left -= count;
            }
        }
    })
}

/// A thread a connection: an origin's CPU is not counted.
fn serve(
    listen: SocketAddr,
    answer: impl Fn(&mut TcpStream) -> std::io::Result<()> + Clone + Send + 'static,
) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    for stream in listener.incoming() {
        let (mut stream, answer) = (stream.context("accept")?, answer.clone());
        stream.set_nodelay(true)?;
        // A connection that ends is no mistake.
        std::thread::spawn(move || answer(&mut stream));
    }
    Ok(())
}
