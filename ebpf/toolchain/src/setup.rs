//! Installing the toolchain on Debian, saying each thing that is done.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Error, Toolchain, find, tools};

/// What apt installs for compiling eBPF: rustc with a `core` for bpfel, and what bpf-linker is
/// built with: LLVM, and g++ for the C++ library that LLVM wants.
pub const DEBIAN_PACKAGES: [&str; 4] =
    ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "g++"];

/// The release whose LLVM is the one of Debian's rustc.
const LINKER_VERSION: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";

/// Finds the toolchain, or installs it; `say` hears of every step. The second call does nothing.
///
/// # Errors
/// What could not be installed, and how to get it by hand.
pub fn setup(say: &mut dyn FnMut(&str)) -> Result<Toolchain, Error> {
    if let Ok(toolchain) = find() {
        return Ok(toolchain);
    }
    say("the eBPF toolchain is not complete; installing it");
    apt_install(&DEBIAN_PACKAGES, say)?;
    if find().is_err() {
        install_linker(say)?;
    }
    find()
}

/// Installs Debian packages, without starting any service that they bring.
///
/// # Errors
/// Not Debian, not root, or apt failed (no network?).
pub fn apt_install(packages: &[&str], say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let missing: Vec<_> =
        packages.iter().filter(|package| !is_installed(package)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let remedy = format!("install by hand, as root: apt-get update && apt-get install {list}");
    if !Path::new("/usr/bin/apt-get").is_file() {
        let what =
            format!("missing: {list}; this is no Debian, so they cannot be installed for you");
        return Err(Error::new(what, "install what your system calls them, then run this again"));
    }
    if !is_root() {
        return Err(Error::new(format!("missing: {list}; only root can install them"), remedy));
    }
    say(&format!("apt-get install {list}"));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        // RUNLEVEL=1 keeps the packages' services from being started.
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args(arguments);
        run(&mut command, &remedy)
    };
    apt(&["-q", "update"])?;
    // rustc-web excludes Debian's own rustc; whoever has that decides himself.
    let install = ["-q", "install", "--yes", "--no-install-recommends", "--no-remove"];
    apt(&install.iter().copied().chain(missing.iter().copied()).collect::<Vec<_>>())
}

fn install_linker(say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let root = tools();
    say(&format!("cargo install bpf-linker {LINKER_VERSION} to {} (a minute)", root.display()));
    let mut command = Command::new("cargo");
    command
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--quiet"])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(&root)
        .env("LLVM_PREFIX", LLVM)
        .env("LLVM_SYS_221_PREFIX", LLVM);
    crate::compile::clean_environment(&mut command);
    run(&mut command, "is the network there? the crate registry must be reachable")
}

/// Runs a command whose output is shown only when it fails.
fn run(command: &mut Command, remedy: &str) -> Result<(), Error> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::new(format!("run {shown}: {error}"), remedy))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(Error::new(format!("{shown} failed: {last}"), remedy))
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).output();
    status.is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
