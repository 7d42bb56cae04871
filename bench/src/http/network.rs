//! The network in which everything is measured: a namespace with loopback alone.
//!
//! Connections in it have Linux's own default of congestion control. BBR, which a machine may have set
//! instead, paces by a timer a packet train: on a virtual machine that costs more than any proxy does,
//! the same for all, and so hides what they differ in.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

const CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// What a kernel has where nobody has set another.
const DEFAULT: &str = "cubic";

/// Moves this thread, and with it whatever it starts, to a network of its own. Who may not do that measures
/// in the machine's, whose congestion control the results name.
pub(super) fn enter() -> Result<()> {
    let before = control()?;
    // Opened here, it goes on naming the machine's setting once this thread has left its network.
    let machines = match OpenOptions::new().write(true).open(CONTROL) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return stay(&before),
        opened => opened.with_context(|| format!("open {CONTROL}"))?,
    };
    // A new namespace takes over what the machine has; only there may every algorithm be chosen.
    set(&machines, DEFAULT)?;
    let entered = unshare(CloneFlags::CLONE_NEWNET);
    set(&machines, &before)?;
    if entered == Err(Errno::EPERM) {
        return stay(&before);
    }
    entered.context("make a network namespace")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("run ip")?;
    ensure!(up.success(), "loopback could not be set up: {up}");
    Ok(())
}

fn stay(control: &str) -> Result<()> {
    eprintln!(
        "bench: without root, in the machine's network, whose congestion control is {control}"
    );
    Ok(())
}

fn set(setting: &File, control: &str) -> Result<()> {
    let written = setting.write_all_at(control.as_bytes(), 0);
    written.with_context(|| format!("set the congestion control to {control}"))
}

/// The congestion control of this thread's network.
pub(super) fn control() -> Result<String> {
    let text = fs::read_to_string(CONTROL).with_context(|| format!("read {CONTROL}"))?;
    Ok(text.trim().to_owned())
}
