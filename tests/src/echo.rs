//! Servers on backends for tests of layer 4: they say who they are, and give back what they get.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::world::inside;

/// How long a server waits before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(20);
/// Bytes of a datagram.
const DATAGRAM_SIZE_MAX: usize = 65_536;

/// TCP and UDP at some addresses of a host; each line or datagram comes back with the host's name before
/// it: `backend1 hello`. Ends when dropped.
#[derive(Debug)]
pub struct Echo {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Starts it in a network namespace that has the addresses.
    ///
    /// # Errors
    /// It has not, or a port is taken.
    pub fn start(namespace: &str, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for &address in addresses {
            let (listener, socket) = inside(namespace, || {
                let listener = TcpListener::bind(address);
                let listener = listener.with_context(|| format!("{name}: listen at {address}"))?;
                anyhow::Ok((listener, UdpSocket::bind(address)?))
            })??;
            listener.set_nonblocking(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let (own, end) = (name.to_owned(), Arc::clone(&ending));
            threads.push(thread::spawn(move || accept(&listener, &own, &end)));
            let (own, end) = (name.to_owned(), Arc::clone(&ending));
            threads.push(thread::spawn(move || answer_datagrams(&socket, &own, &end)));
        }
        Ok(Self { ending, threads })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, name: &str, ending: &Arc<AtomicBool>) {
    while !ending.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(PATIENCE / 10);
            continue;
        };
        let (name, end) = (name.to_owned(), Arc::clone(ending));
        // It ends with its client, or soon after the server.
        thread::spawn(move || answer_lines(stream, &name, &end));
    }
}

fn answer_lines(stream: TcpStream, name: &str, ending: &AtomicBool) {
    let configured = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_nodelay(true))
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
    let (Ok(()), Ok(mut writer)) = (configured, stream.try_clone()) else { return };
    let (mut reader, mut line) = (BufReader::new(stream), Vec::new());
    while !ending.load(Ordering::Relaxed) {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.ends_with(b"\n") => {
                let answer = [name.as_bytes(), b" ", &line].concat();
                line.clear();
                if writer.write_all(&answer).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, name: &str, ending: &AtomicBool) {
    let mut buffer = vec![0; DATAGRAM_SIZE_MAX];
    while !ending.load(Ordering::Relaxed) {
        let Ok((size, client)) = socket.recv_from(&mut buffer) else { continue };
        let received = buffer.get(..size).unwrap_or_default();
        let _ = socket.send_to(&[name.as_bytes(), b" ", received].concat(), client);
    }
}

/// Sends a line on a connection; the name of who answered.
///
/// # Errors
/// The connection is broken, or the answer is not what was sent.
pub fn ask(stream: &mut TcpStream, text: &str) -> Result<String> {
    stream.write_all(format!("{text}\n").as_bytes()).context("write")?;
    let mut answer = String::new();
    BufReader::new(&mut *stream).read_line(&mut answer).context("read")?;
    named(&answer, text)
}

/// Sends a datagram from a socket that is connected; the name of who answered.
///
/// # Errors
/// Nothing comes back in time, or not what was sent.
pub fn ask_datagram(socket: &UdpSocket, text: &str) -> Result<String> {
    socket.send(text.as_bytes()).context("send")?;
    let mut buffer = vec![0; DATAGRAM_SIZE_MAX];
    let size = socket.recv(&mut buffer).context("receive")?;
    named(&String::from_utf8_lossy(buffer.get(..size).unwrap_or_default()), text)
}

fn named(answer: &str, text: &str) -> Result<String> {
    let (name, rest) = answer.trim_end().split_once(' ').context("an answer of two words")?;
    anyhow::ensure!(rest == text, "sent {} bytes, {} came back", text.len(), rest.len());
    Ok(name.to_owned())
}
