//! `cargo xtask demo`: builds everything and becomes the demo.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::anyhow;

use crate::setup::{self, Purpose};
use crate::{cargo, say};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave everything up at the end, and print what to try
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::toolchain()?;
    setup::programs(Purpose::Tests)?;
    say("building weir and the demo");
    // One command, so that both are built with the same features. The dev profile is optimised
    // enough to show the way, and links in seconds.
    let built = cargo::build(&["build", "--package", "weir", "--package", "weir-tests", "--bins"])?;
    let mut demo = Command::new(cargo::path(&built, "weir-demo")?);
    demo.env("WEIR_BIN", cargo::path(&built, "weir")?);
    if arguments.keep {
        demo.arg("--keep");
    }
    Err(anyhow!(demo.exec()).context("start weir-demo"))
}
