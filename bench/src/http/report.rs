//! What rounds say: medians, spreads, ratios, goals.

use anyhow::Result;
use serde::Serialize;

use crate::environment::Environment;
use crate::http::measure::{Measure, Round};
use crate::http::median;
use crate::http::network;
use crate::http::rounds::Outcome;
use crate::http::scenario::{Goal, Scenario};
use crate::http::target::Target;

/// Whose ratios to the others are told.
pub(crate) const OURS: &str = "weir";
/// A goal beside the best of the peers.
const BEST: &str = "best";

/// What a scenario showed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) question: String,
    pub(crate) misleads: String,
    pub(crate) environment: Environment,
    /// Of every connection.
    pub(crate) congestion_control: String,
    /// What the scenario asks comes first.
    pub(crate) tables: Vec<Table>,
    pub(crate) goals: Vec<Held>,
    pub(crate) absent: Vec<Absent>,
    pub(crate) rounds: Vec<Round>,
}

/// A measure of every target.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) measure: Measure,
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) is_peer: bool,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// Ours over this one's, median of the rounds; absent for ourselves, and without us.
    pub(crate) ratio: Option<f64>,
}

/// A goal, and what was found.
#[derive(Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) measure: Measure,
    pub(crate) goal: Goal,
    /// The target that is meant.
    pub(crate) beside: Option<String>,
    /// The ratio, or the figure itself; absent where it was not measured.
    pub(crate) found: Option<f64>,
    pub(crate) is_held: Option<bool>,
}

/// Not measured, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Absent {
    pub(crate) target: String,
    pub(crate) reason: String,
}

impl Report {
    pub(crate) fn new(scenario: &Scenario, targets: &[Target], outcome: Outcome) -> Result<Self> {
        let Outcome { rounds, absent } = outcome;
        let measures = [
            Measure::Cpu,
            Measure::SystemCpu,
            Measure::Connection,
            Measure::P99At10k,
            Measure::P50AtHalf,
            Measure::P99AtHalf,
            Measure::Memory,
        ];
        let tables = measures.into_iter().map(|measure| Table {
            measure,
            title: measure.title(&scenario.counts),
            rows: targets.iter().filter_map(|target| row(&rounds, measure, target)).collect(),
        });
        let tables: Vec<_> = tables.filter(|table| !table.rows.is_empty()).collect();
        let goals = scenario.goals.iter().map(|goal| hold(goal, scenario.asks(), &tables));
        Ok(Self {
            scenario: scenario.name.clone(),
            question: scenario.question.clone(),
            misleads: scenario.misleads.trim().to_owned(),
            environment: Environment::read()?,
            congestion_control: network::control()?,
            goals: goals.collect(),
            tables,
            absent: absent.into_iter().map(|(target, reason)| Absent { target, reason }).collect(),
            rounds,
        })
    }

    pub(crate) fn counted(&self) -> u32 {
        self.rounds.iter().map(|round| round.round).max().unwrap_or(0)
    }
}

impl Table {
    pub(crate) fn row(&self, target: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.target == target)
    }

    /// The best of the peers, by its median.
    pub(crate) fn best(&self) -> Option<&Row> {
        let sign = if self.measure.is_more_better() { 1.0 } else { -1.0 };
        let peers = self.rows.iter().filter(|row| row.is_peer);
        peers.max_by(|a, b| (sign * a.median).total_cmp(&(sign * b.median)))
    }
}

fn row(rounds: &[Round], measure: Measure, target: &Target) -> Option<Row> {
    let theirs = figures(rounds, measure, &target.name);
    let ours = figures(rounds, measure, OURS);
    let ratios: Vec<_> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    (!theirs.is_empty()).then(|| Row {
        target: target.name.clone(),
        version: target.version(),
        is_peer: target.peer,
        least: theirs.iter().copied().fold(f64::INFINITY, f64::min),
        most: theirs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        median: median(theirs),
        ratio: (target.name != OURS && !ratios.is_empty()).then(|| median(ratios)),
    })
}

/// A target's figures in the order of the rounds.
fn figures(rounds: &[Round], measure: Measure, target: &str) -> Vec<f64> {
    let own = rounds.iter().filter(|round| round.target == target && round.measure == measure);
    own.map(|round| round.value).collect()
}

fn hold(goal: &Goal, asked: Measure, tables: &[Table]) -> Held {
    let measure = goal.measure.unwrap_or(asked);
    let table = tables.iter().find(|table| table.measure == measure);
    let beside = match goal.than.as_deref() {
        Some(BEST) => table.and_then(Table::best).map(|row| row.target.clone()),
        than => than.map(str::to_owned),
    };
    let found = table.and_then(|table| match (&goal.than, &beside) {
        (None, _) => table.row(OURS).map(|row| row.median),
        (Some(_), beside) => table.row(beside.as_deref()?)?.ratio,
    });
    let is_held = found.map(|found| {
        goal.at_least.is_none_or(|least| found >= least)
            && goal.at_most.is_none_or(|most| found <= most)
    });
    Held { measure, goal: goal.clone(), beside, found, is_held }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: &str, median: f64, ratio: Option<f64>) -> Row {
        let (is_peer, version) = (target != OURS && target != "floor", String::new());
        let (least, most) = (median, median);
        Row { target: target.to_owned(), version, is_peer, median, least, most, ratio }
    }

    fn check(goal: &str, expected: (Option<&str>, Option<bool>)) {
        let rows = vec![
            row(OURS, 130.0, None),
            row("nginx", 100.0, Some(1.3)),
            row("haproxy", 110.0, Some(1.18)),
            row("floor", 140.0, Some(0.93)),
        ];
        let table = Table { measure: Measure::Cpu, title: String::new(), rows };
        let goal: Goal = toml::from_str(goal).unwrap();
        let held = hold(&goal, Measure::Cpu, &[table]);
        assert_eq!((held.beside.as_deref(), held.is_held), expected, "{goal:?}");
    }

    #[test]
    fn goals() {
        check("than = 'best'\nat-least = 1.25", (Some("haproxy"), Some(false)));
        check("than = 'nginx'\nat-least = 1.25", (Some("nginx"), Some(true)));
        check("than = 'floor'\nat-least = 0.93", (Some("floor"), Some(true)));
        check("than = 'envoy'\nat-least = 1.0", (Some("envoy"), None));
        check("at-most = 100.0", (None, Some(false)));
        check("measure = 'p99-at-10k'\nthan = 'best'\nat-most = 1.0", (None, None));
    }
}
