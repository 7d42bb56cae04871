//! Sockets that the packet path knows by a mark.

use std::io;
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

/// A TCP socket, not connected and non-blocking, whose packets to `address` carry `mark` (`SO_MARK`).
///
/// # Errors
/// Of the system: a mark needs `CAP_NET_ADMIN`, or `CAP_NET_RAW`.
pub fn marked_socket(address: SocketAddr, mark: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_mark(mark)?;
    Ok(socket.into())
}
