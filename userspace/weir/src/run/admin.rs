//! The sockets of the admin side.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::{AbortHandle, spawn_local};
use weir_admin::{Port, Running, serve_tcp, serve_unix};
use weir_l7::ListenerSockets;
use weir_model::Config;

use super::handover::Sockets;

/// The bound sockets.
pub(crate) struct Bound {
    /// Each with its address as configured.
    admin: Option<(SocketAddr, TcpListener)>,
    status: Option<(SocketAddr, TcpListener)>,
    socket: UnixListener,
    file: SocketFile,
}

/// Removes the socket's file when dropped, unless it is another process's by then.
struct SocketFile {
    path: PathBuf,
    is_own: bool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The sockets being served. Dropping it removes the unix socket's file.
#[derive(Default)]
pub(crate) struct Serving {
    tasks: Vec<AbortHandle>,
    tcp: Vec<(SocketAddr, OwnedFd)>,
    unix: Option<(SocketFile, OwnedFd)>,
}

/// Takes every socket that the configuration asks for from those inherited, or binds it; all or none.
/// Where the unix socket is another one now, the file of the inherited one is removed.
pub(crate) async fn bind(config: &Config, inherited: &mut Sockets) -> Result<Bound> {
    let mut bind_tcp = |key, address| -> Result<_> {
        Ok((address, register(key, address, inherited.take_tcp(address))?))
    };
    let admin = config.admin.address.map(|address| bind_tcp("admin", address)).transpose()?;
    let status = config.status.map(|address| bind_tcp("status", address)).transpose()?;
    let path = &config.admin.socket;
    let (socket, file) = match inherited.take_unix(path) {
        Some(socket) => {
            socket.set_nonblocking(true).context("take over the admin socket")?;
            let socket = UnixListener::from_std(socket).context("take over the admin socket")?;
            // While the process before this one serves, it is still that one's.
            (socket, SocketFile { path: path.clone(), is_own: false })
        }
        None => bind_unix(path).await?,
    };
    Ok(Bound { admin, status, socket, file })
}

impl Bound {
    pub(crate) fn status_address(&self) -> Option<SocketAddr> {
        self.status.as_ref().and_then(|(_, status)| status.local_addr().ok())
    }

    /// Serves until the runtime ends or [`Serving::leave`]; the answer is to be held as long.
    pub(crate) fn serve(mut self, running: &Rc<Running>) -> Result<Serving> {
        let mut serving = Serving::default();
        for (listener, port) in [(self.admin, Port::Admin), (self.status, Port::Status)] {
            if let Some((address, listener)) = listener {
                let copy = listener.as_fd().try_clone_to_owned().context("serve the admin side")?;
                serving.tcp.push((address, copy));
                let task = spawn_local(serve_tcp(Rc::clone(running), listener, port));
                serving.tasks.push(task.abort_handle());
            }
        }
        let copy = self.socket.as_fd().try_clone_to_owned().context("serve the admin side")?;
        let task = spawn_local(serve_unix(Rc::clone(running), self.socket));
        serving.tasks.push(task.abort_handle());
        self.file.is_own = true;
        serving.unix = Some((self.file, copy));
        Ok(serving)
    }
}

impl Serving {
    /// These sockets and those of listeners, once more.
    pub(crate) fn sockets(&self, listeners: Vec<ListenerSockets>) -> Result<Sockets> {
        let mut sockets = Sockets { listeners, ..Sockets::default() };
        for (address, socket) in &self.tcp {
            sockets.tcp.push((*address, socket.try_clone().context("copy a socket")?));
        }
        if let Some((file, socket)) = &self.unix {
            sockets.unix = Some((file.path.clone(), socket.try_clone().context("copy a socket")?));
        }
        Ok(sockets)
    }

    /// Accepts nothing more: another process does, and has the socket's file.
    pub(crate) fn leave(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
        self.tcp.clear();
        if let Some((mut file, _)) = self.unix.take() {
            file.is_own = false;
        }
    }
}

fn register(
    key: &str,
    address: SocketAddr,
    inherited: Option<std::net::TcpListener>,
) -> Result<TcpListener> {
    let listener = match inherited {
        Some(listener) => listener,
        None => weir_net::bind_sole(address).with_context(|| format!("{key}.address"))?,
    };
    listener.set_nonblocking(true).with_context(|| format!("register {address}"))?;
    TcpListener::from_std(listener).with_context(|| format!("register {address}"))
}

async fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile)> {
    let shown = path.display();
    if UnixStream::connect(path).await.is_ok() {
        bail!("another weir answers at {shown}\nstop it, or give this one its own `admin.socket`");
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove the old socket {shown}"));
        }
        _ => {}
    }
    // Nobody else may connect between bind and chmod.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.with_context(|| format!("bind the admin socket {shown}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("set the mode of {shown}"))?;
    Ok((listener, SocketFile { path: path.to_owned(), is_own: true }))
}
