//! The sockets of the admin side.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::spawn_local;
use weir_admin::{Port, Running, serve_tcp, serve_unix};
use weir_model::Config;

/// The bound sockets; the unix socket's file goes when this is dropped.
pub(crate) struct Bound {
    admin: Option<TcpListener>,
    status: Option<TcpListener>,
    socket: UnixListener,
    file: SocketFile,
}

/// Removes the socket's file when dropped.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds every socket that the configuration asks for, or none.
pub(crate) async fn bind(config: &Config) -> Result<Bound> {
    let admin = config.admin.address.map(|address| bind_tcp("admin", address)).transpose()?;
    let status = config.status.map(|address| bind_tcp("status", address)).transpose()?;
    let (socket, file) = bind_unix(&config.admin.socket).await?;
    Ok(Bound { admin, status, socket, file })
}

impl Bound {
    pub(crate) fn status_address(&self) -> Option<SocketAddr> {
        self.status.as_ref().and_then(|status| status.local_addr().ok())
    }

    /// Serves until the runtime ends; the answer is to be held as long.
    pub(crate) fn serve(self, running: &Rc<Running>) -> SocketFile {
        for (listener, port) in [(self.admin, Port::Admin), (self.status, Port::Status)] {
            if let Some(listener) = listener {
                spawn_local(serve_tcp(Rc::clone(running), listener, port));
            }
        }
        spawn_local(serve_unix(Rc::clone(running), self.socket));
        self.file
    }
}

fn bind_tcp(key: &str, address: SocketAddr) -> Result<TcpListener> {
    let listener = weir_net::bind_sole(address).with_context(|| format!("{key}.address"))?;
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
    Ok((listener, SocketFile(path.to_owned())))
}
