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

use clap::{Parser, Subcommand};

/// Builds, tests, shows and measures Weir. Each command sets up what it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what building and testing need; does nothing the second time
    Setup(setup::Arguments),
    /// Compile the XDP program and the `weir` binary that embeds it
    Build(build::Arguments),
    /// Run every test; none may be skipped
    Test(test::Arguments),
    /// Show Weir at work on this machine: real packets, real requests
    Demo(demo::Arguments),
    /// Measure Weir beside nginx and HAProxy
    Bench(bench::Arguments),
    /// Check formatting and lints of everything
    Lint,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Lint => lint::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tells what is being done, before it is done.
fn say(line: &str) {
    eprintln!("xtask: {line}");
}
