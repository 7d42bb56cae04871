//! What rounds say: medians, spreads, ratios.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::environment::Environment;
use crate::round::Round;
use crate::scenario::{Scenario, folder};
use crate::target::Target;

/// Whose ratios to the others are told.
const OURS: &str = "weir";

/// What a scenario showed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: String,
    question: String,
    misleads: String,
    environment: Environment,
    rows: Vec<Row>,
    rounds: Vec<Round>,
}

/// One target's figures, requests per CPU-second.
#[derive(Debug, Serialize)]
struct Row {
    target: String,
    version: String,
    median: f64,
    least: f64,
    most: f64,
    /// Ours over this one's, median of the rounds; absent for ourselves.
    ratio: Option<f64>,
}

impl Report {
    pub(crate) fn new(scenario: &Scenario, targets: &[Target], rounds: Vec<Round>) -> Result<Self> {
        let ours = figures(&rounds, OURS);
        let row = |target: &Target| {
            let theirs = figures(&rounds, &target.name);
            let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
            Row {
                target: target.name.clone(),
                version: target.version(),
                median: median(theirs.clone()),
                least: theirs.iter().copied().fold(f64::INFINITY, f64::min),
                most: theirs.iter().copied().fold(0.0, f64::max),
                ratio: (target.name != OURS).then(|| median(ratios)),
            }
        };
        Ok(Self {
            scenario: scenario.name.clone(),
            question: scenario.question.clone(),
            misleads: scenario.misleads.trim().to_owned(),
            environment: Environment::read()?,
            rows: targets.iter().map(row).collect(),
            rounds,
        })
    }

    pub(crate) fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("write JSON")
    }

    pub(crate) fn markdown(&self) -> String {
        let Self { scenario, question, misleads, environment, .. } = self;
        let mut text = format!("## {scenario}\n\n{question}\n\n");
        text += "| target | requests per CPU-second, median | least – most | weir ÷ target |\n";
        text += "|---|---|---|---|\n";
        for row in &self.rows {
            let ratio = row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} ({}) | {:.0} | {:.0} – {:.0} | {ratio} |",
                row.target, row.version, row.median, row.least, row.most
            );
        }
        let rounds = self.rounds.iter().map(|round| round.round).max().unwrap_or(0);
        let _ = write!(
            text,
            "\n{rounds} rounds each. {environment}\n\nWhere it misleads: {misleads}\n"
        );
        text
    }

    /// Writes table and rounds to a folder of `results/`.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let folder = folder().join("results").join(self.environment.folder());
        std::fs::create_dir_all(&folder).context("make the folder of the results")?;
        let mut rounds = "round,target,requests,cpu_seconds\n".to_owned();
        for Round { round, target, requests, cpu_seconds } in &self.rounds {
            let _ = writeln!(rounds, "{round},{target},{requests},{cpu_seconds:.2}");
        }
        std::fs::write(folder.join(format!("{}.csv", self.scenario)), rounds)?;
        std::fs::write(folder.join(format!("{}.md", self.scenario)), self.markdown())?;
        Ok(folder)
    }
}

/// A target's requests per CPU-second, by round.
fn figures(rounds: &[Round], target: &str) -> Vec<f64> {
    let own = rounds.iter().filter(|round| round.target == target);
    own.map(Round::requests_per_cpu_second).collect()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.len() % 2, figures.get(middle)) {
        (1, Some(figure)) => *figure,
        (_, Some(upper)) => {
            figures.get(middle.wrapping_sub(1)).map_or(*upper, |lower| (lower + upper) / 2.0)
        }
        (_, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (figures, expected) in
            [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0], 2.5), (vec![7.0], 7.0)]
        {
            assert!((median(figures) - expected).abs() < 1e-9);
        }
    }
}
