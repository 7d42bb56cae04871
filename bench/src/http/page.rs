//! Reports as pages: an overview, tables, rounds.

use std::fmt::Write;

use crate::http::measure::Round;
use crate::http::report::{Absent, Held, OURS, Report, Row, Table};

/// Targets that the overview has a column for.
const BESIDE: [&str; 4] = ["nginx", "haproxy", "envoy", "floor"];

// Writing to a String cannot fail: what `write!` answers is dropped here.

/// All scenarios in one table, then each by itself.
pub(crate) fn whole(reports: &[Report]) -> String {
    let mut text = "# HTTP, TLS and relay beside the peers\n".to_owned();
    if reports.len() > 1 {
        text += &overview(reports);
    }
    for report in reports {
        text += &section(report);
    }
    text
}

fn overview(reports: &[Report]) -> String {
    let mut text = "\nRatios are Weir's figure ÷ the target's.\n\n".to_owned();
    text += "| scenario | measure | weir | ÷ nginx | ÷ haproxy | ÷ envoy | ÷ floor | goal | found | held |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|\n";
    for report in reports {
        let first = report.tables.first();
        let told = |table: &&Table| {
            let is_goal = report.goals.iter().any(|held| held.measure == table.measure);
            is_goal || first.is_some_and(|first| first.measure == table.measure)
        };
        for table in report.tables.iter().filter(told) {
            let ours = table.row(OURS).map_or("not measured".to_owned(), |row| number(row.median));
            let _ = write!(text, "| {} | {} | {ours} |", report.scenario, table.title);
            for target in BESIDE {
                let _ = write!(text, " {} |", ratio(table.row(target)));
            }
            let goals: Vec<_> =
                report.goals.iter().filter(|held| held.measure == table.measure).collect();
            let column = |tell: &dyn Fn(&Held) -> String| {
                goals.iter().map(|held| tell(held)).collect::<Vec<_>>().join("; ")
            };
            let _ =
                writeln!(text, " {} | {} | {} |", column(&goal), column(&found), column(&is_held));
        }
        if first.is_none() {
            let _ = writeln!(text, "| {} | not measured | | | | | | | | |", report.scenario);
        }
    }
    text
}

/// One scenario.
fn section(report: &Report) -> String {
    let Report { scenario, question, misleads, environment, congestion_control, .. } = report;
    let mut text = format!("\n## {scenario}\n\n{question}\n");
    for table in &report.tables {
        let _ = writeln!(text, "\n| target | {} | least – most | weir ÷ target |", table.title);
        text += "|---|---|---|---|\n";
        for row in &table.rows {
            let Row { target, version, median, least, most, .. } = row;
            let ratio = ratio(Some(row));
            let [median, least, most] = [*median, *least, *most].map(number);
            let _ =
                writeln!(text, "| {target} ({version}) | {median} | {least} – {most} | {ratio} |");
        }
    }
    if !report.goals.is_empty() {
        text += "\n| goal | found | held |\n|---|---|---|\n";
        for held in &report.goals {
            let measure = held.measure;
            let line =
                format!("| {measure}: {} | {} | {} |", goal(held), found(held), is_held(held));
            let _ = writeln!(text, "{line}");
        }
    }
    for Absent { target, reason } in &report.absent {
        let _ = writeln!(text, "\nNot measured: {target}: {reason}");
    }
    let rounds = report.counted();
    let _ = writeln!(
        text,
        "\n{rounds} rounds, medians. {environment} Congestion control: {congestion_control}.\n\nWhere it misleads: {misleads}"
    );
    text
}

/// Every figure of every round.
pub(crate) fn csv(reports: &[Report]) -> String {
    let mut text = "scenario,round,target,measure,value\n".to_owned();
    for report in reports {
        for Round { round, target, measure, value } in &report.rounds {
            let _ = writeln!(text, "{},{round},{target},{measure},{value:.3}", report.scenario);
        }
    }
    text
}

/// `≥ 1.25 × best (nginx)`
pub(crate) fn goal(Held { goal, beside, .. }: &Held) -> String {
    let bound = match (goal.at_least, goal.at_most) {
        (Some(least), _) => format!("≥ {}", number(least)),
        (None, most) => format!("≤ {}", number(most.unwrap_or(f64::NAN))),
    };
    match (&goal.than, beside) {
        (None, _) => bound,
        (Some(than), Some(beside)) if than != beside => format!("{bound} × {than} ({beside})"),
        (Some(than), _) => format!("{bound} × {than}"),
    }
}

fn found(held: &Held) -> String {
    held.found.map_or("not measured".to_owned(), number)
}

fn is_held(held: &Held) -> String {
    match held.is_held {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "?",
    }
    .to_owned()
}

fn ratio(row: Option<&Row>) -> String {
    row.and_then(|row| row.ratio).map_or(String::new(), |ratio| format!("{ratio:.2}"))
}

fn number(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        small if small < 1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
