//! Socket options that neither socket2 nor rustix knows.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd};

use libc::{IPPROTO_TCP, SO_RCVLOWAT, SOL_SOCKET, TCP_DEFER_ACCEPT, c_int, socklen_t};

/// How long the kernel keeps a client that says nothing to itself. It counts in repetitions of its own
/// answer, after one and three seconds: measured, such a client is accepted after the second.
const DEFER_SECONDS: c_int = 1;

/// Whether a listening socket is told of a client only when it has said something, or has been silent for
/// some seconds: a request can then be read as soon as its connection is accepted.
///
/// # Errors
/// The kernel refuses; the socket is as it was.
pub fn set_defer_accept(socket: impl AsFd, defer: bool) -> io::Result<()> {
    let seconds = if defer { DEFER_SECONDS } else { 0 };
    set(socket, (IPPROTO_TCP, TCP_DEFER_ACCEPT), seconds)
}

/// How many bytes are to have arrived before whoever waits for them is woken; fewer where the stream
/// has ended, or the kernel's buffer has no room for as many. 1 is the kernel's default.
///
/// # Errors
/// The kernel refuses; the socket is as it was.
pub fn set_receive_low_water(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    set(socket, (SOL_SOCKET, SO_RCVLOWAT), bytes)
}

fn set(socket: impl AsFd, (level, name): (c_int, c_int), value: c_int) -> io::Result<()> {
    let size = socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    let (fd, address) = (socket.as_fd().as_raw_fd(), (&raw const value).cast());
    // SAFETY: the descriptor is borrowed, and the kernel reads `size` bytes of a value that is alive.
    let result = unsafe { libc::setsockopt(fd, level, name, address, size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn would_block<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn a_client_is_accepted_once_it_has_said_something() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_defer_accept(&listener, true).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(would_block(listener.accept()));
        client.write_all(b"x").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.read_exact(&mut [0]).unwrap();
        set_defer_accept(&listener, false).unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_reader_is_woken_when_enough_is_there_or_the_end() {
        fn is_readable(stream: &TcpStream, within: i64) -> bool {
            let mut polled = [PollFd::new(stream, PollFlags::IN)];
            let within = Timespec { tv_sec: within, tv_nsec: 0 };
            poll(&mut polled, Some(&within)).unwrap() == 1
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        set_receive_low_water(&accepted, 3).unwrap();
        client.write_all(b"ab").unwrap();
        assert!(!is_readable(&accepted, 0));
        set_receive_low_water(&accepted, 2).unwrap();
        assert!(is_readable(&accepted, 10));
        set_receive_low_water(&accepted, 4).unwrap();
        assert!(!is_readable(&accepted, 0));
        client.shutdown(Shutdown::Write).unwrap();
        assert!(is_readable(&accepted, 10));
    }
}
