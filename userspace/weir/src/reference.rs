//! `docs/reference.md`: commands, endpoints, algorithms, checks and refusals, from their registries.

use std::fmt::Write;

use clap::CommandFactory;

use crate::cli::Arguments;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");

#[test]
fn the_committed_page_is_fresh() {
    let page = page();
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        std::fs::write(PATH, &page).expect("write docs/reference.md");
    }
    let committed = std::fs::read_to_string(PATH).expect("read docs/reference.md");
    assert!(committed == page, "run `WEIR_WRITE_DOCS=1 cargo test -p weir reference`");
}

fn page() -> String {
    let mut page = String::from(
        "# Reference\n\nGenerated from the program's own registries by \
         `WEIR_WRITE_DOCS=1 cargo test -p weir reference`.\n",
    );
    endpoints(&mut page);
    rows(&mut page, "Algorithms", "`algorithm:` of an upstream", algorithms());
    rows(&mut page, "Checks", "`type:` of an upstream's `health.active`", checks());
    refusals(&mut page);
    page += "\n## Commands\n";
    let mut command = Arguments::command().term_width(100);
    command.build();
    commands(&mut page, &mut command);
    page
}

fn endpoints(page: &mut String) {
    *page += "\n## Admin API and status port\n\n\
              JSON over the unix socket and the loopback address of `admin:`; a mistake answers \
              `{\"message\", \"fields\"}`. The status port is the address of `status:`.\n\n\
              | port | request | answers with, or does |\n|---|---|---|\n";
    for endpoint in weir_admin::ENDPOINTS {
        let port = match endpoint.port {
            weir_admin::Port::Admin => "admin",
            weir_admin::Port::Status => "status",
        };
        let (method, path, summary) = (&endpoint.method, endpoint.path, endpoint.summary);
        let _ = writeln!(page, "| {port} | `{method} {path}` | {summary} |");
    }
}

fn algorithms() -> Vec<(&'static str, &'static str)> {
    let word = |name| {
        let names = weir_model::AlgorithmName::NAMES;
        names.iter().find(|(_, known)| *known == name).map_or("", |(word, _)| *word)
    };
    weir_balance::ALGORITHMS.iter().map(|spec| (word(spec.name), spec.summary)).collect()
}

fn checks() -> Vec<(&'static str, &'static str)> {
    weir_health::CHECKS.iter().map(|spec| (spec.name, spec.summary)).collect()
}

fn rows(page: &mut String, title: &str, of: &str, rows: Vec<(&str, &str)>) {
    let _ = write!(page, "\n## {title}\n\n| {of} | meaning |\n|---|---|\n");
    for (name, summary) in rows {
        let _ = writeln!(page, "| `{name}` | {summary} |");
    }
}

fn refusals(page: &mut String) {
    *page += "\n## Refusals\n\nWhy Weir answered a request itself; the label `reason` of \
              `weir_refusals_total`.\n\n| reason | status | message |\n|---|---|---|\n";
    for refusal in weir_l7::Refusal::ALL {
        let (name, status, message) = (refusal.name(), refusal.status(), refusal.message());
        let _ = writeln!(page, "| `{name}` | {status} | {message} |");
    }
}

fn commands(page: &mut String, command: &mut clap::Command) {
    let help = command.render_long_help().to_string();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    let _ = write!(page, "\n### {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    let names = command.get_subcommands().map(|command| command.get_name().to_owned());
    for name in names.filter(|name| name != "help").collect::<Vec<_>>() {
        if let Some(command) = command.find_subcommand_mut(&name) {
            commands(page, command);
        }
    }
}
