//! `cargo xtask bench`: Weir beside its peers.

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{self, Profile};
use crate::setup::{self, For};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What `weir-bench run` takes: `http`, `http:small`, `--rounds N`, `--seconds S`, `--save`, `--list`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::prepare(For::Bench)?;
    let weir = cargo::binary("weir", "weir", Profile::Release)?;
    let bench = cargo::binary("weir-bench", "weir-bench", Profile::Dev)?;
    let mut command = std::process::Command::new(bench);
    command.arg("run").args(&options.arguments).env("WEIR_BIN", weir);
    if !command.status().context("run the benchmark")?.success() {
        bail!("the benchmark failed");
    }
    Ok(())
}
