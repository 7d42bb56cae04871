//! The peers' tools.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Debian packages, each with a command that it brings.
const PACKAGES: [(&str, &str); 5] = [
    ("ipset", "ipset"),
    ("nftables", "nft"),
    ("iptables", "iptables"),
    ("xdp-tools", "xdp-filter"),
    ("bpftool", "bpftool"),
];

/// Installs what is missing, and says so.
pub(crate) fn install() -> Result<()> {
    let is_missing = |command: &str| {
        !["/usr/sbin", "/usr/bin", "/sbin"].iter().any(|f| Path::new(f).join(command).exists())
    };
    let missing: Vec<_> =
        PACKAGES.iter().filter(|(_, command)| is_missing(command)).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("bench: apt-get install {}", missing.join(" "));
    let mut command = Command::new("apt-get");
    command.args(["install", "--quiet", "--yes", "--no-install-recommends"]).args(&missing);
    let output =
        command.env("DEBIAN_FRONTEND", "noninteractive").output().context("run apt-get")?;
    if !output.status.success() {
        bail!("apt-get install: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Runs a command in a network namespace with this text as its input; what it printed.
pub(crate) fn inside(namespace: &str, command: &[&str], input: &str) -> Result<String> {
    // Not `ip netns exec`, which would hide the BPF file system.
    let mut child = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let mut pipe = child.stdin.take().context("open its input")?;
    let text = input.to_owned();
    let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    // One that ends early says why itself.
    let _ = writer.join();
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
