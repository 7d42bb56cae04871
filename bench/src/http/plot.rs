//! Ratios of every scenario as bars, with lines where the goals are.

use std::fmt::Write;

use crate::http::page;
use crate::http::report::{Held, OURS, Report, Row, Table};

/// Pixels.
const NAMES_WIDTH: f64 = 230.0;
const PLOT_WIDTH: f64 = 560.0;
const NOTES_WIDTH: f64 = 230.0;
const BAR_HEIGHT: f64 = 15.0;
const GROUP_GAP: f64 = 16.0;
const TOP: f64 = 56.0;
/// Longer bars are cut, and their number told.
const RATIO_MAX: f64 = 3.5;

const COLOURS: [(&str, &str); 4] =
    [("nginx", "#2f7d4f"), ("haproxy", "#2d6aa6"), ("envoy", "#a4508b"), ("floor", "#7f7f7f")];

/// An SVG: the longer a bar, the better is Weir beside that target.
pub(crate) fn svg(reports: &[Report]) -> String {
    let (mut body, mut y) = (String::new(), TOP);
    for report in reports {
        let Some(table) = report.tables.first() else { continue };
        y = group(&mut body, report, table, y);
    }
    let (width, height) = (NAMES_WIDTH + PLOT_WIDTH + NOTES_WIDTH, y + 10.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let title =
        "Weir beside the others: how many times better (1 is alike; the red line is the goal)";
    label(&mut text, 10.0, 20.0, title, "font-size=\"14\" font-weight=\"bold\"");
    for (tick, place) in [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5].map(|tick| (tick, at(tick))) {
        let colour = if (tick - 1.0_f64).abs() < 1e-9 { "#333" } else { "#ddd" };
        let (from, to) = (TOP - 8.0, height - 10.0);
        line(&mut text, (place, from), (place, to), &format!("stroke=\"{colour}\""));
        label(
            &mut text,
            place,
            TOP - 14.0,
            &format!("{tick}"),
            "text-anchor=\"middle\" fill=\"#555\"",
        );
    }
    text + &body + "</svg>\n"
}

/// The bars of a scenario; answers where the next one begins.
fn group(text: &mut String, report: &Report, table: &Table, top: f64) -> f64 {
    let rows: Vec<_> = table.rows.iter().filter(|row| row.target != OURS).collect();
    let count = rows.len().max(1);
    #[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
    let bottom = top + count as f64 * BAR_HEIGHT;
    label(text, 10.0, top + 12.0, &report.scenario, "font-weight=\"bold\"");
    let mut y = top;
    for row in &rows {
        bar(text, table, row, y);
        for held in report.goals.iter().filter(|held| held.measure == table.measure) {
            goal_line(text, table, held, row, y);
        }
        y += BAR_HEIGHT;
    }
    let goals = report.goals.iter().filter(|held| held.measure == table.measure);
    let mut note = top + 12.0;
    for held in goals {
        let colour = match held.is_held {
            Some(true) => "#2f7d4f",
            Some(false) => "#c0392b",
            None => "#7f7f7f",
        };
        let place = NAMES_WIDTH + PLOT_WIDTH + 10.0;
        label(text, place, note, &page::goal(held), &format!("fill=\"{colour}\" font-size=\"11\""));
        note += BAR_HEIGHT;
    }
    if table.row(OURS).is_none() {
        let place = NAMES_WIDTH + 6.0;
        label(text, place, top + 12.0, "weir was not measured", "fill=\"#c0392b\"");
    }
    bottom.max(note - 12.0) + GROUP_GAP
}

fn bar(text: &mut String, table: &Table, row: &Row, y: f64) {
    let colour = COLOURS.iter().find(|(name, _)| *name == row.target);
    let colour = colour.map_or("#b8860b", |(_, colour)| colour);
    let style = "text-anchor=\"end\" fill=\"#555\" font-size=\"11\"";
    label(text, NAMES_WIDTH - 6.0, y + 11.0, &row.target, style);
    let Some(ratio) = row.ratio.map(|ratio| better(table, ratio)) else { return };
    let (from, to) = (at(0.0), at(ratio));
    let (width, height) = (to - from, BAR_HEIGHT - 3.0);
    let _ = writeln!(
        text,
        "<rect x=\"{from}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
    );
    // Beside the bar, so that no goal's line hides it; inside where the bar is cut.
    let (place, style) = match ratio {
        long if long >= RATIO_MAX => (to - 4.0, "text-anchor=\"end\" fill=\"white\""),
        _ => (to + 5.0, "fill=\"#333\""),
    };
    label(text, place, y + 10.0, &format!("{ratio:.2}"), &format!("{style} font-size=\"10\""));
}

/// Across the bar of the target that the goal means.
fn goal_line(text: &mut String, table: &Table, held: &Held, row: &Row, y: f64) {
    let Some(goal) = held.goal.at_least.or(held.goal.at_most) else { return };
    if held.beside.as_deref() == Some(row.target.as_str()) {
        let place = at(better(table, goal));
        let to = (place, y + BAR_HEIGHT - 1.0);
        line(text, (place, y - 2.0), to, "stroke=\"#c0392b\" stroke-width=\"2.5\"");
    }
}

/// A ratio that grows where Weir is better.
fn better(table: &Table, ratio: f64) -> f64 {
    if table.measure.is_more_better() { ratio } else { 1.0 / ratio }
}

fn at(ratio: f64) -> f64 {
    NAMES_WIDTH + ratio.clamp(0.0, RATIO_MAX) / RATIO_MAX * PLOT_WIDTH
}

fn label(text: &mut String, x: f64, y: f64, words: &str, style: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}

fn line(text: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str) {
    let _ = writeln!(
        text,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"
    );
}
