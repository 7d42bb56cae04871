//! Figures with what they are to be, as tables of a page.

use anyhow::{Result, bail};

use crate::environment::Environment;

/// A scenario whose parts have tables of their own.
pub(crate) struct Scenario {
    /// As it is typed.
    pub(crate) name: &'static str,
    pub(crate) question: &'static str,
    pub(crate) misleads: &'static str,
    /// Each with what it is called behind the name and a colon.
    pub(crate) parts: &'static [(&'static str, &'static str)],
    pub(crate) run: fn(&str, u32) -> Result<Vec<Figure>>,
}

impl Scenario {
    /// Everything, or one part, in interleaved rounds; the report.
    pub(crate) fn report(&self, part: Option<&str>, rounds: u32) -> Result<String> {
        let Self { name, question, misleads, parts, run } = self;
        if let Some(part) = part.filter(|part| parts.iter().all(|(known, _)| known != part)) {
            let known: Vec<_> = parts.iter().map(|(part, _)| format!("{name}:{part}")).collect();
            bail!("there is no part `{name}:{part}`; there are: {}", known.join(", "));
        }
        let mut page = format!("## {name}\n\n{question}\n");
        for (own, title) in parts.iter().filter(|(own, _)| part.is_none_or(|part| part == *own)) {
            eprintln!("bench: {name}:{own}: {title}");
            page += &table(title, &run(own, rounds)?);
        }
        page += &format!(
            "\n{rounds} rounds each, medians. {}\n\nWhere it misleads: {misleads}\n",
            Environment::read()?
        );
        Ok(page)
    }
}

/// A figure with what it is to be.
pub(crate) struct Figure {
    pub(crate) what: String,
    /// Median, least and most.
    pub(crate) found: [f64; 3],
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<f64>,
}

impl Figure {
    pub(crate) fn of(what: impl Into<String>, mut figures: Vec<f64>, unit: &'static str) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        let found = [at(figures.len() / 2), at(0), at(last)];
        Self { what: what.into(), found, unit, goal: None }
    }

    pub(crate) fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }
}

/// A table under its title.
pub(crate) fn table(title: &str, figures: &[Figure]) -> String {
    let mut text = format!(
        "\n### {title}\n\n| what | median | least – most | goal | held |\n|---|---|---|---|---|\n"
    );
    for Figure { what, found: [median, least, most], unit, goal } in figures {
        let goal_text = goal.map_or(String::new(), |goal| format!("≤ {} {unit}", number(goal)));
        let held = goal.map_or("", |goal| if *median <= goal { "yes" } else { "**no**" });
        text += &format!(
            "| {what} | {} {unit} | {} – {} | {goal_text} | {held} |\n",
            number(*median),
            number(*least),
            number(*most)
        );
    }
    text
}

fn number(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        small if small < 1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
