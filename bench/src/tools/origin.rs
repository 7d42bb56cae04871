//! Origins that nginx cannot be: chunked answers, echo, streams of bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};

use crate::tools::socket::{Poll, receive};

/// The number of the listener; connections have those from 0.
const LISTENER: usize = usize::MAX;
/// Chunks of an answer.
const CHUNKS: usize = 8;
const BUFFER_SIZE: usize = 256 * 1024;

pub(crate) fn chunked(listen: SocketAddr, body_size: usize) -> Result<()> {
    let chunk = "x".repeat(body_size / CHUNKS);
    let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
    let head = "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{head}{}0\r\n\r\n", chunk.repeat(CHUNKS)).into_bytes();
    serve(listen, |bytes, mut stream| {
        // Requests have no body, come in one piece, and are under way one at a time.
        if bytes.ends_with(b"\r\n\r\n") { stream.write_all(&answer) } else { Ok(()) }
    })
}

pub(crate) fn echo(listen: SocketAddr) -> Result<()> {
    serve(listen, |bytes, mut stream| stream.write_all(bytes))
}

/// One thread for all connections, as most origins have, because to wake one for each of them would be at the
/// proxies' expense. Writes may block: the clients of the benchmark always read.
fn serve(
    listen: SocketAddr,
    answer: impl Fn(&[u8], &TcpStream) -> std::io::Result<()>,
) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER)?;
    let (mut streams, mut buffer) = (Vec::<Option<TcpStream>>::new(), vec![0; BUFFER_SIZE]);
    loop {
        for number in poll.wait()? {
            if number == LISTENER {
                let (stream, _) = listener.accept().context("accept")?;
                stream.set_nodelay(true)?;
                poll.add(&stream, streams.len())?;
                streams.push(Some(stream));
            } else if let Some(stream) = &streams[number] {
                let is_over = match receive(stream, &mut buffer) {
                    None => false,
                    Some(0) => true,
                    Some(count) => answer(&buffer[..count], stream).is_err(),
                };
                if is_over {
                    // Numbers are not used again: a benchmark opens few connections here.
                    streams[number] = None;
                }
            }
        }
    }
}

/// A thread a connection: a stream lasts.
pub(crate) fn stream(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    for stream in listener.incoming() {
        let mut stream = stream.context("accept")?;
        stream.set_nodelay(true)?;
        // A connection that ends is no mistake.
        std::thread::spawn(move || send_what_is_asked(&mut stream));
    }
    Ok(())
}

fn send_what_is_asked(stream: &mut TcpStream) -> std::io::Result<()> {
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
}
