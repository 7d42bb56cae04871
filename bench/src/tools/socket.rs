//! An epoll of sockets that are read once an event.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Events taken at once.
const EVENTS_MAX: usize = 512;

/// What waits for sockets, each known by a number.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("make an epoll")?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Told of again and again while there is something to read.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) -> Result<()> {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN).context("watch a socket")
    }

    /// Waits; then the numbers of what can be read.
    pub(crate) fn wait(&mut self) -> Result<impl Iterator<Item = usize> + use<>> {
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for sockets"),
        }
        let numbers: Vec<_> = self.events.iter().map(number).collect();
        Ok(numbers.into_iter())
    }
}

fn number(event: &epoll::Event) -> usize {
    // Copied first: the structure is packed.
    let data = event.data;
    usize::try_from(data.u64()).unwrap_or(usize::MAX)
}

/// A connection that sends at once.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads once, without waiting: `None` when there is nothing, 0 at the end or when it was cut.
pub(crate) fn receive(stream: &TcpStream, buffer: &mut [u8]) -> Option<usize> {
    match recv(stream, buffer, RecvFlags::DONTWAIT).map(|(count, _)| count) {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(_) => Some(0),
    }
}
