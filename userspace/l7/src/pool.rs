//! Idle connections to backends, one pool a reactor.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use weir_balance::BackendId;

/// Idle connections kept to one backend by one reactor.
const IDLE_MAX: usize = 256;
/// How long a connection may be idle; shorter than what common servers allow (60 s and more).
const IDLE_AGE_MAX: Duration = Duration::from_secs(50);

/// Idle connections by backend; the last one used is used first, so that the others can age.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<BackendId, Vec<Idle>, BuildHasherDefault<IdHasher>>>,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: Duration,
}

impl Pool {
    /// A connection that was still open when last heard of.
    pub(crate) fn take(&self, backend: BackendId) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&backend)?;
        while let Some(Idle { stream, .. }) = connections.pop() {
            if is_quiet(&stream) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection that has nothing left to say. `now` is time since the reactor started.
    pub(crate) fn put(&self, backend: BackendId, stream: TcpStream, now: Duration) {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(backend).or_default();
        if connections.len() < IDLE_MAX {
            connections.push(Idle { stream, since: now });
        }
    }

    /// Closes connections that are too old, that the backend closed, or whose backend is gone.
    pub(crate) fn prune(&self, now: Duration, is_known: impl Fn(BackendId) -> bool) {
        self.idle.borrow_mut().retain(|&backend, connections| {
            connections.retain(|idle| {
                now.saturating_sub(idle.since) < IDLE_AGE_MAX && is_quiet(&idle.stream)
            });
            !connections.is_empty() && is_known(backend)
        });
    }
}

/// Whether nothing has arrived: neither the end of the stream nor bytes that nobody asked for. The
/// runtime has heard of it already, so nothing is asked of the kernel.
fn is_quiet(stream: &TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Backend ids are small distinct numbers; hashing them would cost more than the look-up.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The table takes its control bits from the top.
        self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = self.0.rotate_left(5) ^ id;
    }
}
