//! `cargo xtask setup`: the eBPF toolchain, and the programs that tests and benchmarks run.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::say;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only report what is there; exit 1 if something is missing
    #[arg(long)]
    check: bool,
    /// Also what `cargo xtask bench` needs
    #[arg(long)]
    bench: bool,
}

/// What a program is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Tests,
    Bench,
}

/// Programs beside the toolchain, the Debian package of each, and who runs it.
const PROGRAMS: [(&str, &str, Purpose); 4] = [
    ("ip", "iproute2", Purpose::Tests),
    ("wrk", "wrk", Purpose::Tests),
    ("nginx", "nginx", Purpose::Bench),
    ("haproxy", "haproxy", Purpose::Bench),
];

/// Where Debian keeps what only root runs; not on everybody's path.
const ROOT_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let purpose = if arguments.bench { Purpose::Bench } else { Purpose::Tests };
    if arguments.check {
        return check(purpose);
    }
    toolchain()?;
    programs(purpose)?;
    say("all is set up");
    Ok(())
}

/// What compiles the XDP program.
pub(crate) fn toolchain() -> anyhow::Result<()> {
    weir_toolchain::setup(&mut say)?;
    Ok(())
}

/// What tests run; for benchmarks, also the peers. Services that come along are not started.
pub(crate) fn programs(purpose: Purpose) -> anyhow::Result<()> {
    let needed = needed(purpose).filter(|(program, _)| find(program).is_none());
    let packages: Vec<_> = needed.map(|(_, package)| package).collect();
    weir_toolchain::apt_install(&packages, &mut say)?;
    Ok(())
}

fn check(purpose: Purpose) -> anyhow::Result<()> {
    let mut is_complete = true;
    let mut report = |what: &str, found: Result<String, String>| {
        is_complete &= found.is_ok();
        match found {
            Ok(found) => println!("{what:<16} {found}"),
            Err(missing) => println!("{what:<16} MISSING: {missing}"),
        }
    };
    let toolchain = weir_toolchain::find();
    let toolchain = toolchain.map(|toolchain| toolchain.to_string());
    report("eBPF toolchain", toolchain.map_err(|error| error.to_string()));
    for (program, package) in needed(purpose) {
        let found = find(program).map(|path| path.display().to_string());
        report(program, found.ok_or_else(|| format!("apt-get install {package}")));
    }
    if !is_complete {
        bail!("something is missing\nrun as root: cargo xtask setup");
    }
    Ok(())
}

fn needed(purpose: Purpose) -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_needed = move |of: Purpose| purpose == Purpose::Bench || of == Purpose::Tests;
    PROGRAMS.into_iter().filter(move |(.., of)| is_needed(*of)).map(|(name, from, _)| (name, from))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(ROOT_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(Path::new(program))).find(|path| path.is_file())
}
