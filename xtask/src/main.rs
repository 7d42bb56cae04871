//! The project's commands: `cargo xtask COMMAND`.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod cargo;
mod demo;
mod lint;
mod setup;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Builds, tests, shows and measures Weir. Every command installs what it needs by itself.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Find or install what the other commands need; does nothing the second time
    Setup(setup::Options),
    /// Compile the eBPF object and the weir binary that embeds it
    Build(build::Options),
    /// Run every test; nothing may be skipped
    Test(test::Options),
    /// Watch Weir at work: real backends, a killed one, a ban in the driver (needs root)
    Demo(demo::Options),
    /// Measure Weir beside nginx and HAProxy (needs root)
    Bench(bench::Options),
    /// Check formatting and lints
    Lint,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Setup(options) => setup::run(&options),
        Command::Build(options) => build::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Lint => lint::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tells what is going on, on standard error.
fn say(text: &str) {
    eprintln!("xtask: {text}");
}
