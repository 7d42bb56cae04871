//! `cargo xtask test`: every test of the workspace, none skipped, and which were slow.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cargo::{self, Built};
use crate::say;
use crate::setup::{self, Purpose};

/// How many of the slowest tests are told.
const SLOWEST: usize = 10;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// What the test binaries told.
#[derive(Default)]
struct Report {
    timed: Vec<(Duration, String)>,
    failed: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    setup::toolchain()?;
    setup::programs(Purpose::Tests)?;
    say("building weir and the tests");
    let weir = cargo::build(&["build", "--package", "weir", "--package", "weir-tests", "--bins"])?;
    let weir = cargo::path(&weir, "weir")?;
    let tests = cargo::build(&["test", "--workspace", "--no-run"])?;
    let filter = arguments.filter.as_deref();
    let mut report = Report::default();
    for test in tests.iter().filter(|built| built.is_test) {
        run_binary(test, weir, filter, &mut report)?;
    }
    if filter.is_none() {
        say("tests in documentation");
        if cargo::run(&["test", "--workspace", "--doc", "--quiet"]).is_err() {
            report.failed.push("tests in documentation".to_owned());
        }
    }
    report.tell(began.elapsed())
}

/// Runs one test binary as cargo would, passing its output on.
fn run_binary(
    test: &Built,
    weir: &Path,
    filter: Option<&str>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let package = test.folder.strip_prefix(weir_toolchain::root()).unwrap_or(&test.folder);
    say(&format!("{} ({})", package.display(), test.name));
    let mut child = Command::new(&test.path)
        .current_dir(&test.folder)
        .args(filter)
        .args(["-Zunstable-options", "--report-time"])
        // Times are told only to those who ask for unstable options.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_MANIFEST_DIR", &test.folder)
        .env("WEIR_BIN", weir)
        .env("WEIR_NO_SKIP", "1")
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", test.path.display()))?;
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        let line = line.with_context(|| format!("read the output of {}", test.name))?;
        println!("{line}");
        report.read(&line);
    }
    let status = child.wait().with_context(|| format!("wait for {}", test.name))?;
    if !status.success() {
        report.failed.push(format!("{} ({}): {status}", package.display(), test.name));
    }
    Ok(())
}

impl Report {
    /// Reads a line like `test route::exact ... ok <0.012s>`.
    fn read(&mut self, line: &str) {
        let Some((name, result)) =
            line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... "))
        else {
            return;
        };
        if result.starts_with("FAILED") {
            self.failed.push(name.to_owned());
        }
        let seconds = result.split(['<', '>']).nth(1).and_then(|time| time.strip_suffix('s'));
        let took = seconds.and_then(|seconds| seconds.parse().ok());
        if let Some(took) = took.and_then(|took| Duration::try_from_secs_f64(took).ok()) {
            self.timed.push((took, name.to_owned()));
        }
    }

    fn tell(mut self, took: Duration) -> anyhow::Result<()> {
        self.timed.sort_unstable_by(|one, other| other.cmp(one));
        println!("\nslowest tests");
        for (took, name) in self.timed.iter().take(SLOWEST) {
            println!("{:8.3} s  {name}", took.as_secs_f64());
        }
        println!("\n{} tests in {:.0} s", self.timed.len(), took.as_secs_f64());
        if self.timed.is_empty() {
            bail!("no test was run\nname a part of a test's name, or nothing");
        }
        if !self.failed.is_empty() {
            let failed = self.failed.join("\n  ");
            bail!("failed:\n  {failed}\ntheir messages stand above");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_test_binaries_print() {
        for (line, timed, failed) in [
            ("test route::exact ... ok <0.012s>", Some(("route::exact", 12)), None),
            ("test slow - should panic ... ok <2.5s>", Some(("slow - should panic", 2500)), None),
            ("test drain ... FAILED <1.000s>", Some(("drain", 1000)), Some("drain")),
            ("test left_out ... ignored", None, None),
            ("test result: ok. 3 passed; 0 failed", None, None),
            ("running 3 tests", None, None),
        ] {
            let mut report = Report::default();
            report.read(line);
            let took =
                |(name, millis): (&str, u64)| (Duration::from_millis(millis), name.to_owned());
            assert_eq!(report.timed, timed.map(took).into_iter().collect::<Vec<_>>(), "{line}");
            assert_eq!(report.failed, failed.into_iter().collect::<Vec<_>>(), "{line}");
        }
    }
}
