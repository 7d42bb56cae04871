//! What the service manager is told (sd_notify(3)), where one wants to know.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// It takes requests.
pub(crate) fn ready() {
    send("READY=1");
}

/// It is about to change; [`ready`] tells when it has.
pub(crate) fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// It is about to end.
pub(crate) fn stopping() {
    send("STOPPING=1");
}

/// Another process serves from now on.
pub(crate) fn main_pid(pid: u32) {
    send(&format!("MAINPID={pid}\nREADY=1"));
}

/// Nobody may be there any more, which is no matter of ours.
fn send(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = name.as_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    };
    let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) else { return };
    let _ = socket.set_nonblocking(true);
    if let Err(error) = socket.send_to_addr(state.as_bytes(), &address) {
        tracing::debug!("tell the service manager: {error}");
    }
}
