//! `cargo xtask lint`: formatting and lints, with and without the kernel side.

use anyhow::Result;

use crate::cargo;
use crate::setup::{self, For};

const XDP: &str = "ebpf/xdp/Cargo.toml";

pub(crate) fn run() -> Result<()> {
    setup::prepare(For::Build)?;
    cargo::run(&["fmt", "--all", "--check"])?;
    cargo::run(&["fmt", "--manifest-path", XDP, "--check"])?;
    let strict = ["--", "-D", "warnings"];
    cargo::run(&[&["clippy", "--quiet", "--workspace", "--all-targets"], &strict[..]].concat())?;
    let without = ["clippy", "--quiet", "--package", "weir", "--no-default-features"];
    cargo::run(&[&without, &strict[..]].concat())
}
