//! Measures Weir beside its peers: `cargo xtask bench`. See `METHODOLOGY.md`.
#![forbid(unsafe_code)]

mod bans;
mod environment;
mod figure;
mod files;
mod guard;
mod http;
mod l4;
mod process;
mod tools;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser};

/// Measures Weir beside its peers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
enum Command {
    /// List the scenarios with the question that each asks
    List,
    /// Run scenarios
    Run(Run),
    /// Be a server or a client of the benchmark
    #[command(subcommand, hide = true)]
    Tool(tools::Tool),
}

#[derive(Debug, Args)]
struct Run {
    /// Only this scenario, or one part of it: `http`, `http:small`
    scenario: Option<String>,
    /// Counted rounds of each target
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Only these targets of `http`
    #[arg(long, value_delimiter = ',')]
    targets: Vec<String>,
    /// Only whether `http` works: weir and nginx, a round of a second, few idle connections
    #[arg(long, conflicts_with = "save")]
    smoke: bool,
    /// Write tables, rounds and a picture to bench/results/
    #[arg(long)]
    save: bool,
    /// Print JSON instead of tables (`http`)
    #[arg(long)]
    json: bool,
    /// List the scenarios instead
    #[arg(long)]
    list: bool,
}

/// Idle connections of a run, and of one that only shows that it works.
const IDLE_MAX: u32 = 10_000;
const IDLE_SMOKE: u32 = 200;

/// Whose tables are of [`figure`].
const MEASURED: [figure::Scenario; 2] = [l4::SCENARIO, guard::SCENARIO];

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::List => list(),
        Command::Run(options) if options.list => list(),
        Command::Run(options) => run(&options),
        Command::Tool(tool) => tool.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<()> {
    println!("{}: {}", http::NAME, http::QUESTION);
    http::list()?;
    println!("{}: {}", bans::NAME, bans::QUESTION);
    for scenario in MEASURED {
        println!("{}: {}", scenario.name, scenario.question);
    }
    Ok(())
}

fn run(options: &Run) -> Result<()> {
    if let Some(asked) = options.scenario.as_deref() {
        let (name, part) =
            asked.split_once(':').map_or((asked, None), |(name, part)| (name, Some(part)));
        return family(options, name, part);
    }
    for name in [http::NAME, bans::NAME].into_iter().chain(MEASURED.map(|it| it.name)) {
        family(options, name, None)?;
    }
    Ok(())
}

fn family(options: &Run, name: &str, part: Option<&str>) -> Result<()> {
    if name == http::NAME {
        return proxies(options, part);
    }
    if name == bans::NAME {
        let page = bans::run(part, options.rounds, options.seconds > 1)?;
        return tell(options, bans::NAME, &page);
    }
    let Some(scenario) = MEASURED.into_iter().find(|it| it.name == name) else {
        bail!("there is no scenario `{name}`\n`cargo xtask bench --list` lists them");
    };
    tell(options, name, &scenario.report(part, options.rounds)?)
}

fn proxies(options: &Run, part: Option<&str>) -> Result<()> {
    let Run { smoke, json, save, .. } = *options;
    let length = Duration::from_secs(if smoke { 1 } else { options.seconds });
    let rounds = if smoke { 1 } else { options.rounds };
    let idle = if smoke { IDLE_SMOKE } else { IDLE_MAX };
    let amount = http::Amount { rounds, length, idle };
    let few = ["weir".to_owned(), "nginx".to_owned()];
    let is_few = smoke && options.targets.is_empty();
    let targets = if is_few { &few[..] } else { &options.targets[..] };
    http::run(&http::Options { part, targets, amount, json, save })
}

/// The page of another kind of question, with tables of its own.
fn tell(options: &Run, name: &str, page: &str) -> Result<()> {
    println!("{page}");
    if options.save {
        files::save(&format!("{name}.md"), page)?;
    }
    Ok(())
}
