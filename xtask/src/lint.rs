//! `cargo xtask lint`: formatting and lints, of both workspaces and both shapes of the binary.

use crate::{cargo, say, setup};

const STEPS: [(&str, &[&str]); 4] = [
    ("formatting", &["fmt", "--all", "--check"]),
    (
        "formatting of the XDP program",
        &["fmt", "--check", "--manifest-path", "ebpf/xdp/Cargo.toml"],
    ),
    ("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    (
        "lints without the kernel side",
        &["clippy", "--package", "weir", "--no-default-features", "--", "-D", "warnings"],
    ),
];

pub(crate) fn run() -> anyhow::Result<()> {
    setup::toolchain()?;
    for (what, command) in STEPS {
        say(what);
        cargo::run(command)?;
    }
    Ok(())
}
