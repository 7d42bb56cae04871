//! What is measured of a target in a round.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of figure; each has a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// What a scenario counts, a CPU-second of the proxy's processes.
    Cpu,
    /// The same, a CPU-second of the whole machine.
    SystemCpu,
    /// The same, a second of the round: what the clients could ask for.
    Rate,
    /// Median latency at half of the slowest target's rate, in microseconds.
    P50AtHalf,
    P99AtHalf,
    /// At 10,000 requests a second.
    #[serde(rename = "p99-at-10k")]
    P99At10k,
    /// Proportional set size after the load, in MiB.
    Memory,
    /// Growth of the proportional set size, in bytes a connection.
    Connection,
}

impl Measure {
    /// What it is called, where the scenario counts `counts`.
    pub(crate) fn title(self, counts: &str) -> String {
        match self {
            Self::Cpu => format!("{counts} per CPU-second of the proxy"),
            Self::SystemCpu => format!("{counts} per CPU-second of the whole machine"),
            Self::Rate => format!("{counts} a second"),
            Self::P50AtHalf => "p50 at half of the slowest target's rate, µs".to_owned(),
            Self::P99AtHalf => "p99 at half of the slowest target's rate, µs".to_owned(),
            Self::P99At10k => "p99 at 10,000 requests a second, µs".to_owned(),
            Self::Memory => "memory after the load (PSS), MiB".to_owned(),
            Self::Connection => "memory an idle connection (PSS), bytes".to_owned(),
        }
    }

    /// Whether more is better.
    pub(crate) fn is_more_better(self) -> bool {
        matches!(self, Self::Cpu | Self::SystemCpu | Self::Rate)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::SystemCpu => "system-cpu",
            Self::Rate => "rate",
            Self::P50AtHalf => "p50-at-half",
            Self::P99AtHalf => "p99-at-half",
            Self::P99At10k => "p99-at-10k",
            Self::Memory => "memory",
            Self::Connection => "connection",
        })
    }
}

/// What one target showed in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) round: u32,
    pub(crate) target: String,
    pub(crate) measure: Measure,
    pub(crate) value: f64,
}
