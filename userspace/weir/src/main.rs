//! Weir: a kernel-accelerated load balancer and API gateway.
#![forbid(unsafe_code)]

mod cli;
mod run;

#[cfg(test)]
mod reference;

use std::process::ExitCode;

use clap::Parser;

/// HTTP/2 makes and drops some twenty objects a request, of sizes that glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = cli::Arguments::parse().command;
    match cli::execute(command) {
        Ok(code) => code,
        Err(error) => {
            // What failed, then what to do, a line each; a mistake's place comes first.
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
