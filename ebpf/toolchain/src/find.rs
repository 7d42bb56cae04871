//! Which toolchain this machine has.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Rustc, Toolchain, tools};

pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// The toolchain of this machine.
///
/// # Errors
/// What is missing, and how to get it.
pub fn find() -> Result<Toolchain, Error> {
    let remedy = "run `cargo xtask setup` (as root on Debian; elsewhere: `rustup toolchain install \
                  nightly --component rust-src` and `cargo install bpf-linker`), or build without \
                  the kernel side: `cargo build -p weir --no-default-features`";
    let rustc = rustc().ok_or_else(|| {
        Error::new(
            "no Rust compiler for eBPF: neither Debian's rustc-web with \
                    libstd-rust-web-dev-bpf nor a nightly with rust-src",
            remedy,
        )
    })?;
    let linker = linker().ok_or_else(|| Error::new("bpf-linker is not installed", remedy))?;
    Ok(Toolchain { rustc, linker })
}

fn rustc() -> Option<Rustc> {
    let debian = PathBuf::from("/usr/bin/rustc");
    if debian.is_file() && has_core(&debian) {
        return Some(Rustc::Debian(debian));
    }
    // Asked by list first: naming a toolchain that is absent makes rustup install it.
    let installed = output(Command::new("rustup").args(["toolchain", "list"]))?;
    if !installed.lines().any(|name| name.starts_with("nightly")) {
        return None;
    }
    let sysroot = output(Command::new("rustc").args(["+nightly", "--print", "sysroot"]))?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    sources.is_dir().then_some(Rustc::Nightly)
}

/// Whether this compiler brings a prebuilt `core` for the target.
fn has_core(rustc: &Path) -> bool {
    let folder = output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]));
    let Some(Ok(files)) = folder.map(|folder| std::fs::read_dir(folder.trim())) else {
        return false;
    };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

/// The folder of bpf-linker: the project's own, cargo's, or one on the path.
fn linker() -> Option<PathBuf> {
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [tools()].into_iter().chain(cargo).map(|folder| folder.join("bin"));
    folders.chain(env::split_paths(&path)).find(|folder| folder.join("bpf-linker").is_file())
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
