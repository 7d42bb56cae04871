//! A backend that answers with exactly the bytes of its script, for what no well-behaved one sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// One connection's part of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read until the bytes end so; then go on.
    ReadUntil(&'static [u8]),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Close, so that unread bytes reset the connection.
    Close,
}

/// A backend that serves its scripted connections one after the other, then refuses.
#[derive(Debug)]
pub struct RawBackend {
    /// Where it listens.
    pub address: SocketAddr,
    received: Receiver<Vec<u8>>,
}

impl RawBackend {
    /// Starts one whose connections follow `scripts` in order.
    ///
    /// # Panics
    /// There is no free port.
    #[must_use]
    pub fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for script in scripts {
                let Ok((stream, _)) = listener.accept() else { return };
                let _ = sender.send(follow(stream, &script));
            }
        });
        Self { address, received }
    }

    /// What the next connection has received when its script was over.
    ///
    /// # Panics
    /// It is not over in time.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.received.recv_timeout(Duration::from_secs(10)).expect("a script that ends")
    }
}

fn follow(mut stream: TcpStream, script: &[Step]) -> Vec<u8> {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut received = Vec::new();
    for step in script {
        match step {
            Step::ReadUntil(end) => {
                let (mut byte, start) = ([0], received.len());
                while !received[start..].ends_with(end) {
                    match stream.read(&mut byte) {
                        Ok(1) => received.push(byte[0]),
                        _ => return received,
                    }
                }
            }
            Step::Send(bytes) => drop(stream.write_all(bytes)),
            Step::Close => return received,
        }
    }
    // Stay open until the other side closes.
    let _ = stream.read_to_end(&mut received);
    received
}
