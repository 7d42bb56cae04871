//! `cargo xtask bench`: builds for production and becomes the benchmark.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::anyhow;

use crate::setup::{self, Purpose};
use crate::{cargo, say};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A scenario's name and further arguments of the benchmark; none: what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::toolchain()?;
    setup::programs(Purpose::Bench)?;
    say("building weir and the benchmark for production (a few minutes)");
    let built = cargo::build(&[
        "build",
        "--package",
        "weir",
        "--package",
        "weir-bench",
        "--bins",
        "--release",
    ])?;
    let mut bench = Command::new(cargo::path(&built, "weir-bench")?);
    bench.env("WEIR_BIN", cargo::path(&built, "weir")?).args(&arguments.arguments);
    Err(anyhow!(bench.exec()).context("start weir-bench"))
}
