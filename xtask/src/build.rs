//! `cargo xtask build`: the weir binary with its kernel side.

use anyhow::Result;
use clap::Args;

use crate::cargo::{self, Profile};
use crate::setup::{self, For};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Optimise, as for production: takes minutes
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::prepare(For::Build)?;
    let profile = if options.release { Profile::Release } else { Profile::Dev };
    let path = cargo::binary("weir", "weir", profile)?;
    println!("{}", path.display());
    Ok(())
}
