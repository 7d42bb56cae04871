//! Finds the eBPF toolchain, installs it on Debian, and compiles the kernel programs.
//!
//! Two toolchains will do: Debian's rustc with its prebuilt `core` for bpfel, or a nightly of rustup
//! with `rust-src`. Both need bpf-linker. Used by `cargo xtask` and by the build script of `weir-l4`.
#![forbid(unsafe_code)]

mod compile;
mod find;
mod setup;

use std::fmt;
use std::path::{Path, PathBuf};

pub use compile::{SOURCES, compile};
pub use find::find;
pub use setup::{DEBIAN_PACKAGES, apt_install, setup};

/// A compiler and a linker for `bpfel-unknown-none`.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub(crate) rustc: Rustc,
    /// The folder of bpf-linker.
    pub(crate) linker: PathBuf,
}

/// Where `core` for the target comes from.
#[derive(Clone, Debug)]
pub(crate) enum Rustc {
    /// Debian's: prebuilt.
    Debian(PathBuf),
    /// A nightly of rustup: built from its sources.
    Nightly,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rustc {
            Rustc::Debian(path) => write!(f, "{}", path.display())?,
            Rustc::Nightly => write!(f, "rustup's nightly with rust-src")?,
        }
        write!(f, ", {}", self.linker.join("bpf-linker").display())
    }
}

/// Why there is no toolchain, or it did not do its work: what failed, and what to do.
#[derive(Debug)]
pub struct Error {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Error {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what, self.remedy)
    }
}

impl std::error::Error for Error {}

/// The top folder of the project.
#[must_use]
pub fn root() -> &'static Path {
    // This crate lies two folders below it.
    const HERE: &str = env!("CARGO_MANIFEST_DIR");
    Path::new(HERE).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// Where the project keeps tools that it builds for itself.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}
