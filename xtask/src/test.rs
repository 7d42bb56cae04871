//! `cargo xtask test`: every test, none skipped, and which were slow.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{self, Built, Profile};
use crate::say;
use crate::setup::{self, For};

/// How many of the slowest tests are told.
const SLOWEST: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only tests whose path holds this text
    filter: Option<String>,
}

/// What the test binaries said.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    times: Vec<(Duration, String)>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    setup::prepare(For::Test)?;
    let weir = cargo::binary("weir", "weir", Profile::Dev)?;
    builds_without_the_kernel_side()?;
    let tests = cargo::build(&["test", "--workspace", "--no-run"], Profile::Dev)?;
    let mut tally = Tally::default();
    for test in tests {
        // Binaries that integration tests use are built along, and are no tests.
        if test.path.parent().is_some_and(|folder| folder.ends_with("deps")) {
            tally.run(&test, &weir, options.filter.as_deref())?;
        }
    }
    tally.tell(began.elapsed())
}

/// The binary that needs no eBPF toolchain is promised, so it is checked.
fn builds_without_the_kernel_side() -> Result<()> {
    say("cargo check --package weir --no-default-features");
    cargo::run(&["check", "--quiet", "--package", "weir", "--no-default-features"])
}

impl Tally {
    fn run(&mut self, test: &Built, weir: &Path, filter: Option<&str>) -> Result<()> {
        let mut command = Command::new(&test.path);
        command
            .current_dir(weir_toolchain::root().join(&test.package))
            // Times are still behind a switch that only this variable opens.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["-Zunstable-options", "--report-time"])
            .args(filter)
            .env("WEIR_NO_SKIP", "1")
            .env("WEIR_BIN", weir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("run {}", test.path.display()))?;
        let output = child.stdout.take().context("the output of a test")?;
        println!("\n{} ({})", test.package, test.name);
        for line in BufReader::new(output).lines() {
            let line = line.context("the output of a test")?;
            self.read(&format!("{}::", test.package), &line);
            println!("{line}");
        }
        if !child.wait()?.success() && self.failed.is_empty() {
            self.failed.push(format!("{} ended badly", test.package));
        }
        Ok(())
    }

    /// `test name ... ok <0.123s>`
    fn read(&mut self, package: &str, line: &str) {
        let Some((name, result)) =
            line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
        else {
            return;
        };
        let name = format!("{package}{name}");
        let time = result.split_once('<').and_then(|(_, time)| time.strip_suffix("s>"));
        if let Some(time) = time.and_then(|time| time.parse().ok()) {
            self.times.push((Duration::from_secs_f64(time), name.clone()));
        }
        if result.starts_with("ok") {
            self.passed += 1;
        } else {
            self.failed.push(name);
        }
    }

    fn tell(mut self, took: Duration) -> Result<()> {
        self.times.sort_by(|a, b| b.cmp(a));
        println!("\nthe slowest tests:");
        for (time, name) in self.times.iter().take(SLOWEST) {
            println!("{:>8.2} s  {name}", time.as_secs_f64());
        }
        println!("whole run: {:.0} s with set-up and build", took.as_secs_f64());
        println!("{} passed, {} failed", self.passed, self.failed.len());
        if self.passed == 0 {
            bail!("no test ran");
        }
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join(", "));
        }
        Ok(())
    }
}
