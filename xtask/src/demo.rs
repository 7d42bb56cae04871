//! `cargo xtask demo`: build everything and watch it at work.

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{self, Profile};
use crate::setup::{self, For};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave everything up at the end, and tell what to try
    #[arg(long)]
    keep: bool,
    /// Remove what `--keep` left
    #[arg(long, conflicts_with = "keep")]
    down: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::prepare(For::Demo)?;
    let weir = cargo::binary("weir", "weir", Profile::Dev)?;
    let demo = cargo::binary("weir-tests", "weir-demo", Profile::Dev)?;
    let mut command = std::process::Command::new(demo);
    command.arg(if options.down { "down" } else { "run" }).env("WEIR_BIN", weir);
    if options.keep {
        command.arg("--keep");
    }
    let status = command.status().context("run the demo")?;
    if !status.success() {
        bail!("the demo failed");
    }
    Ok(())
}
