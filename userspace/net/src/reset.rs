//! Ending a connection so that the peer does not take it for a proper end.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;

/// Has the socket's close send RST, and drop what was not sent yet (`SO_LINGER` of 0 seconds).
///
/// # Errors
/// Of the system: it is not a socket.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}
