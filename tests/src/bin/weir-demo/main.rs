//! `cargo xtask demo`: Weir at work between real hosts, step by step, every step checked.
#![forbid(unsafe_code)]

mod load;
mod site;
mod steps;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use weir_tests::backend;
use weir_tests::world::World;

use site::NAME;

/// Shows Weir at work between real hosts.
#[derive(Debug, Parser)]
enum Command {
    /// Run the demo; needs root for network namespaces and BPF
    Run {
        /// Leave everything up at the end, and tell what to try
        #[arg(long)]
        keep: bool,
    },
    /// Remove what `run --keep` left
    Down,
    /// Be a backend, until killed
    #[command(hide = true)]
    Backend {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        name: String,
    },
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run { keep } => run(keep),
        Command::Down => {
            let message = if World::remove(NAME) { "the demo is down" } else { "no demo is up" };
            println!("{message}");
            Ok(())
        }
        Command::Backend { listen, name } => {
            backend::serve_forever(listen, &name).map_err(Into::into)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(keep: bool) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "root is needed, for network namespaces and BPF\nrun it as root: sudo cargo xtask demo"
        );
    }
    end_tidily_when_interrupted()?;
    if World::remove(NAME) {
        println!("(an earlier demo was still up; it is removed)\n");
    }
    let (site, summary) = steps::all()?;
    println!("\n{summary}");
    let all_held = summary.all_held();
    if keep {
        site.keep();
    } else {
        drop(site);
        println!("Everything that was made is removed again; `--keep` would leave it up.");
    }
    if !all_held {
        bail!("not every step held");
    }
    Ok(())
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C must not leave namespaces behind: the steps look at a flag and unwind.
fn end_tidily_when_interrupted() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    std::thread::spawn(move || {
        let _ = signals.wait();
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Ends the demo if somebody asked for it.
fn go_on() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted; everything that was made is removed");
    }
    Ok(())
}
