//! The family `http`: proxies side by side, one question a file of `scenarios/`.

mod check;
mod idle;
mod load;
mod measure;
mod network;
mod origin;
mod page;
mod plot;
mod report;
mod rounds;
mod scenario;
mod target;
mod template;
mod wheel;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::files;
use report::{OURS, Report};
pub(crate) use rounds::Amount;
use scenario::Scenario;

pub(crate) const NAME: &str = "http";
pub(crate) const QUESTION: &str =
    "What does a second of a proxy's CPU, and its memory, serve beside nginx, HAProxy and Envoy?";

/// Where proxies run.
const PROXY_CORE: usize = 0;
/// Where origin and client run.
const OTHER_CORE: usize = 1;
/// Open files that idle connections and their proxies need.
const FILES: u64 = 65_536;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    /// One scenario.
    pub(crate) part: Option<&'a str>,
    /// Only these targets; all where there is none.
    pub(crate) targets: &'a [String],
    pub(crate) amount: Amount,
    pub(crate) json: bool,
    pub(crate) save: bool,
}

/// The scenarios with their questions.
pub(crate) fn list() -> Result<()> {
    for Scenario { name, question, .. } in scenario::all()? {
        println!("{NAME}:{name}: {question}");
    }
    Ok(())
}

/// Measures, prints and saves; fails where Weir was to be measured and could not be.
pub(crate) fn run(options: &Options<'_>) -> Result<()> {
    let scenarios = chosen(options.part)?;
    let targets = target::chosen(options.targets)?;
    raise_files()?;
    for target in &targets {
        // While there is a network to fetch it from. What fails is told again where it is missed.
        if let Err(error) = target.install() {
            eprintln!("bench: {}: {error:#}", target.name);
        }
    }
    network::enter()?;
    let mut reports = Vec::new();
    for scenario in &scenarios {
        eprintln!("bench: {NAME}:{}: {}", scenario.name, scenario.question);
        let outcome = rounds::run(scenario, &targets, options.amount)
            .with_context(|| format!("{NAME}:{}", scenario.name))?;
        reports.push(Report::new(scenario, &targets, outcome)?);
    }
    let json = serde_json::to_string_pretty(&reports).context("write JSON")?;
    println!("{}", if options.json { json.clone() } else { page::whole(&reports) });
    if options.save {
        let name = options.part.map_or(NAME.to_owned(), |part| format!("{NAME}-{part}"));
        files::save(&format!("{name}.md"), &page::whole(&reports))?;
        files::save(&format!("{name}.csv"), &page::csv(&reports))?;
        files::save(&format!("{name}.json"), &json)?;
        files::save(&format!("{name}.svg"), &plot::svg(&reports))?;
    }
    complain(&reports)
}

fn chosen(part: Option<&str>) -> Result<Vec<Scenario>> {
    let mut scenarios = scenario::all()?;
    if let Some(part) = part {
        let known: Vec<_> =
            scenarios.iter().map(|scenario| format!("{NAME}:{}", scenario.name)).collect();
        scenarios.retain(|scenario| scenario.name == part);
        let known = known.join(", ");
        ensure!(!scenarios.is_empty(), "there is no scenario `{NAME}:{part}`; there are: {known}");
    }
    Ok(scenarios)
}

fn complain(reports: &[Report]) -> Result<()> {
    let is_without_us = |report: &&Report| report.absent.iter().any(|it| it.target == OURS);
    let names: Vec<_> =
        reports.iter().filter(is_without_us).map(|report| report.scenario.as_str()).collect();
    if !names.is_empty() {
        bail!("weir could not be measured in: {} (the reasons are above)", names.join(", "));
    }
    Ok(())
}

/// For ourselves and what we start.
fn raise_files() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= FILES) {
        return Ok(());
    }
    let wanted = Rlimit { current: Some(FILES), maximum: maximum.map(|most| most.max(FILES)) };
    // Only root may pass the hard limit; others get that.
    let done = setrlimit(Resource::Nofile, wanted)
        .or_else(|_| setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }));
    done.context("raise the limit of open files")
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.len() % 2, figures.get(middle)) {
        (1, Some(figure)) => *figure,
        (_, Some(upper)) => figures
            .get(middle.wrapping_sub(1))
            .map_or(*upper, |lower| f64::midpoint(*lower, *upper)),
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
