//! Where a measurement was made.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

/// Date, processor, kernel.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    date: String,
    processor: String,
    cores: usize,
    kernel: String,
}

impl Environment {
    pub(crate) fn read() -> Result<Self> {
        let processors = std::fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("unknown", |model| model.trim_start_matches([':', '\t', ' ']));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .context("read the kernel's release")?;
        let date = Command::new("date").arg("+%Y-%m-%d").output().context("run date")?;
        Ok(Self {
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            processor: model.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
        })
    }

    /// `2026-01-31-amd-epyc`: the folder of its results.
    pub(crate) fn folder(&self) -> String {
        let plain = self.processor.replace("(R)", "").replace("(TM)", "");
        let words = plain.split(|letter: char| !letter.is_ascii_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).take(2).collect();
        format!("{}-{}", self.date, words.join("-").to_ascii_lowercase())
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, processor, cores, kernel } = self;
        write!(f, "{date}, {processor}, {cores} cores, Linux {kernel}.")
    }
}
