//! Messages with sockets between a process and the one that succeeds it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Sockets of one message; the kernel takes 253.
pub const SOCKETS_MAX: usize = 128;
/// Bytes of one message; a longer text is cut.
const TEXT_SIZE_MAX: usize = 16 * 1024;

/// One end of a connection between the two processes.
#[derive(Debug)]
pub struct Handover(OwnedFd);

/// What came over it.
#[derive(Debug)]
pub struct Parcel {
    /// What it says.
    pub text: String,
    /// The sockets that came along.
    pub sockets: Vec<OwnedFd>,
}

impl Handover {
    /// An end for this process, and one to be the standard input of the other.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let kind = SocketType::SEQPACKET;
        let (own, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self(own), other))
    }

    /// The end that is this process's standard input, which is nobody else's from now on.
    ///
    /// # Errors
    /// There is no standard input, or no `/dev/null` to take its place.
    pub fn of_stdin() -> io::Result<Self> {
        let own = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Self(own))
    }

    /// Sends and receives give up after this time.
    ///
    /// # Errors
    /// It is no socket.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(patience))?;
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(patience))?)
    }

    /// Sends a text with at most [`SOCKETS_MAX`] sockets, which stay open here, too.
    ///
    /// # Errors
    /// The other process is gone, or reads nothing.
    pub fn send(&self, text: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let text = text.as_bytes();
        let text = text.get(..TEXT_SIZE_MAX).unwrap_or(text);
        sendmsg(&self.0, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a message; `None` once the other process has closed its end.
    ///
    /// # Errors
    /// None came in time.
    pub fn receive(&self) -> io::Result<Option<Parcel>> {
        let mut text = vec![0; TEXT_SIZE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut text)];
        let received = loop {
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // The other process has ended without having read all; told once, and what it said is
                // still there.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                received => break received?,
            }
        };
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        text.truncate(received.bytes);
        Ok(Some(Parcel { text: String::from_utf8_lossy(&text).into_owned(), sockets }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_with_their_text_and_the_end_is_seen() {
        let (own, other) = Handover::pair().unwrap();
        let other = Handover(other);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        own.send("a", &[listener.as_fd(), listener.as_fd()]).unwrap();
        own.send("b", &[]).unwrap();
        let parcel = other.receive().unwrap().unwrap();
        assert_eq!((parcel.text.as_str(), parcel.sockets.len()), ("a", 2));
        let address = listener.local_addr().unwrap();
        for socket in parcel.sockets {
            assert_eq!(std::net::TcpListener::from(socket).local_addr().unwrap(), address);
        }
        let parcel = other.receive().unwrap().unwrap();
        assert_eq!((parcel.text.as_str(), parcel.sockets.len()), ("b", 0));
        drop(own);
        assert!(other.receive().unwrap().is_none());
    }

    #[test]
    fn who_says_nothing_is_not_waited_for_forever() {
        let (own, _other) = Handover::pair().unwrap();
        own.set_patience(Duration::from_millis(10)).unwrap();
        assert!(own.receive().is_err());
    }
}
