//! Listening sockets.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that wait in the kernel to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket could not be bound.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    /// What the kernel said of a socket for `address`.
    #[must_use]
    pub fn new(address: SocketAddr, source: io::Error) -> Self {
        Self { address, source }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(f, "listen on {address}: the port is in use"),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "listen on {address}: no interface has that address")
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "listen on {address}: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)"
            ),
            _ => write!(f, "listen on {address}: {source}"),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// One socket for this process alone, non-blocking.
///
/// # Errors
/// [`ListenError`] when the address is in use, not ours, or not permitted.
pub fn bind_sole(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address, false).map_err(|source| ListenError { address, source })
}

/// `count` sockets on one address among which the kernel spreads connections, non-blocking, with
/// `TCP_NODELAY` inherited by what they accept. Port 0 is one free port for all of them.
///
/// # Errors
/// [`ListenError`] when another socket, also one of another Weir, is bound to the address.
pub fn bind_shared(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, ListenError> {
    let bind_all = || -> io::Result<Vec<TcpListener>> {
        // SO_REUSEPORT would let a second process of this user join in silently and take half of
        // the connections; a bind without it finds whoever is there first.
        let probe = bind(address, false)?;
        let address = probe.local_addr()?;
        drop(probe);
        (0..count).map(|_| bind(address, true)).collect()
    };
    bind_all().map_err(|source| ListenError { address, source })
}

/// `count` more sockets for an address that others are bound to with [`bind_shared`]. No connection comes
/// to one before it is given to [`listen`], so that it may be closed again.
///
/// # Errors
/// [`ListenError`] when those others are of another user.
pub fn bind_more(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, ListenError> {
    let sockets = (0..count).map(|_| Ok(bound(address, true)?.into()));
    sockets.collect::<io::Result<_>>().map_err(|source| ListenError { address, source })
}

/// Has a bound socket take connections.
///
/// # Errors
/// The kernel has no memory for it.
pub fn listen(socket: &TcpListener) -> io::Result<()> {
    SockRef::from(socket).listen(BACKLOG)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = bound(address, shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_sockets_have_one_port_and_nobody_else_gets_it() {
        let sockets = bind_shared(([127, 0, 0, 1], 0).into(), 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        let refused = bind_shared(address, 1).unwrap_err();
        assert_eq!(refused.to_string(), format!("listen on {address}: the port is in use"));
        let more = bind_more(address, 2).unwrap();
        assert_eq!(more[1].local_addr().unwrap(), address);
        listen(&more[0]).unwrap();
    }
}
