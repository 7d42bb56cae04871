//! `cargo xtask build`: the `weir` binary with the XDP program in it.

use std::path::PathBuf;

use crate::{cargo, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Optimised for production; takes a few minutes
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    println!("{}", weir(arguments.release)?.display());
    Ok(())
}

/// Builds `weir`; answers where it is.
fn weir(release: bool) -> anyhow::Result<PathBuf> {
    setup::toolchain()?;
    let profile = if release { "release" } else { "dev" };
    let built = cargo::build(&["build", "--package", "weir", "--profile", profile])?;
    Ok(cargo::path(&built, "weir")?.clone())
}
