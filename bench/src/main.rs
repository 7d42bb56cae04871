//! Measures Weir beside its peers: `cargo xtask bench`. See `METHODOLOGY.md`.
#![forbid(unsafe_code)]

mod bans;
mod environment;
mod figure;
mod guard;
mod l4;
mod process;
mod report;
mod round;
mod scenario;
mod target;

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
}

#[derive(Debug, Args)]
struct Run {
    /// Only this scenario
    scenario: Option<String>,
    /// Counted rounds of each target
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Write table and rounds to bench/results/
    #[arg(long)]
    save: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// List the scenarios instead
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::List => list(),
        Command::Run(options) if options.list => list(),
        Command::Run(options) => run(&options),
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
    for scenario in scenario::all()? {
        println!("{}: {}", scenario.name, scenario.question);
    }
    println!("{}: {}", bans::NAME, bans::QUESTION);
    for scenario in [l4::SCENARIO, guard::SCENARIO] {
        println!("{}: {}", scenario.name, scenario.question);
    }
    Ok(())
}

fn run(options: &Run) -> Result<()> {
    let asked = options.scenario.as_deref().unwrap_or("");
    let (name, part) =
        asked.split_once(':').map_or((asked, None), |(name, part)| (name, Some(part)));
    if name == bans::NAME {
        let page = bans::run(part, options.rounds, options.seconds > 1)?;
        return tell(options, bans::NAME, &page);
    }
    let measured = [l4::SCENARIO, guard::SCENARIO].into_iter().find(|it| it.name == name);
    if let Some(scenario) = measured {
        return tell(options, name, &scenario.report(part, options.rounds)?);
    }
    let mut scenarios = scenario::all()?;
    if let Some(name) = &options.scenario {
        scenarios.retain(|scenario| scenario.name == *name);
        if scenarios.is_empty() {
            bail!("there is no scenario `{name}`\n`cargo xtask bench --list` lists them");
        }
    }
    let targets = target::all()?;
    for scenario in &scenarios {
        eprintln!("bench: {}: {}", scenario.name, scenario.question);
        let length = Duration::from_secs(options.seconds);
        let rounds = round::run(scenario, &targets, options.rounds, length)?;
        let report = report::Report::new(scenario, &targets, rounds)?;
        if options.json {
            println!("{}", report.json()?);
        } else {
            println!("{}", report.markdown());
        }
        if options.save {
            let folder = report.save()?;
            eprintln!("bench: saved to {}", folder.display());
        }
    }
    Ok(())
}

/// The page of another kind of question, with tables of its own.
fn tell(options: &Run, name: &str, page: &str) -> Result<()> {
    println!("{page}");
    if options.save {
        let folder =
            scenario::folder().join("results").join(environment::Environment::read()?.folder());
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{name}.md")), page)?;
        eprintln!("bench: saved to {}", folder.display());
    }
    Ok(())
}
