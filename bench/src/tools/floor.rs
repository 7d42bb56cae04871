//! The floor: copies bytes between two sockets and parses nothing; no proxy does less.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};

use crate::tools::socket::{Poll, connect, receive};

/// The number of the listener; pairs of connections have even and odd ones below.
const LISTENER: usize = usize::MAX;
const BUFFER_SIZE: usize = 64 * 1024;

/// One thread; one connection to the origin for each client's. A request takes four system calls
/// besides waiting: what is read from one socket is written to the other, which may block: the
/// clients of the benchmark always read.
pub(crate) fn run(listen: SocketAddr, origin: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER)?;
    let (mut sockets, mut buffer) = (Vec::<Option<TcpStream>>::new(), vec![0; BUFFER_SIZE]);
    loop {
        for number in poll.wait()? {
            if number == LISTENER {
                let (client, _) = listener.accept().context("accept")?;
                client.set_nodelay(true)?;
                for socket in [client, connect(origin)?] {
                    poll.add(&socket, sockets.len())?;
                    sockets.push(Some(socket));
                }
            } else if !copy(&sockets, number, &mut buffer) {
                // Numbers are not used again: a benchmark opens few connections here.
                sockets[number] = None;
                sockets[number ^ 1] = None;
            }
        }
    }
}

/// Whether both connections are still of use.
fn copy(sockets: &[Option<TcpStream>], from: usize, buffer: &mut [u8]) -> bool {
    let (Some(from), Some(mut to)) = (&sockets[from], sockets[from ^ 1].as_ref()) else {
        return true;
    };
    match receive(from, buffer) {
        None => true,
        Some(0) => false,
        Some(count) => to.write_all(&buffer[..count]).is_ok(),
    }
}
