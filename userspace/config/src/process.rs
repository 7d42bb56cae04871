//! The sections about the process itself: `admin:`, `status:` and single keys.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use weir_model::{Admin, LogLevel};

use crate::key::{Key, Table};
use crate::mistake::Mistakes;
use crate::value;

/// How long a graceful stop waits where the configuration does not say.
pub(crate) const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

pub(crate) const ADMIN: &[Key] = &[
    Key::new(
        "address",
        "TCP address of the admin API, a loopback one, or off",
        "127.0.0.1:8001",
        "off",
    ),
    Key::new(
        "socket",
        "unix socket of the admin API, mode 0600",
        Admin::SOCKET_DEFAULT,
        "/run/weir.sock",
    ),
];

pub(crate) const STATUS: &[Key] = &[Key::new(
    "address",
    "TCP address of the status port, or off",
    "127.0.0.1:8007",
    "0.0.0.0:8007",
)];

pub(crate) fn read_admin(root: &Table<'_>, mistakes: &mut Mistakes) -> Admin {
    let table = root.section("admin", "`admin`", ADMIN, mistakes);
    let address = table.and_then(|table| table.read("address", mistakes, admin_address));
    let socket = table.and_then(|table| table.read("socket", mistakes, socket));
    Admin {
        address: address.unwrap_or(Some((Ipv4Addr::LOCALHOST, 8001).into())),
        socket: socket.unwrap_or_else(|| Admin::SOCKET_DEFAULT.into()),
    }
}

fn admin_address(text: &str) -> Result<Option<SocketAddr>, String> {
    let address = address_or_off(text)?;
    if address.is_some_and(|address| !address.ip().is_loopback()) {
        return Err(format!(
            "`{text}` is not a loopback address; the admin API asks for no password"
        ));
    }
    Ok(address)
}

fn socket(text: &str) -> Result<std::path::PathBuf, String> {
    // What the kernel's sockaddr_un holds, with its end.
    const PATH_SIZE_MAX: usize = 107;
    if text.len() > PATH_SIZE_MAX {
        return Err(format!("a socket's path has at most {PATH_SIZE_MAX} bytes"));
    }
    Ok(text.into())
}

pub(crate) fn read_status(root: &Table<'_>, mistakes: &mut Mistakes) -> Option<SocketAddr> {
    let table = root.section("status", "`status`", STATUS, mistakes);
    let address = table.and_then(|table| table.read("address", mistakes, address_or_off));
    address.unwrap_or(Some((Ipv4Addr::LOCALHOST, 8007).into()))
}

fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" { Ok(None) } else { value::address(text).map(Some) }
}

pub(crate) fn log_level(text: &str) -> Result<LogLevel, String> {
    value::word(text, &LogLevel::NAMES)
}
