//! Running cargo, and learning what it built.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// A program that cargo built.
pub(crate) struct Built {
    /// The target's name: `weir`, `it`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The folder of its package: where cargo runs tests.
    pub(crate) folder: PathBuf,
    /// Whether it is a test binary.
    pub(crate) is_test: bool,
}

/// Runs cargo in the project's top folder; its output goes where ours goes.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let shown = format!("cargo {}", arguments.join(" "));
    let status = cargo().args(arguments).status().with_context(|| format!("run {shown}"))?;
    if !status.success() {
        bail!("`{shown}` failed\nits messages stand above");
    }
    Ok(())
}

/// Runs a cargo command that builds; answers the programs that it built or found fresh.
pub(crate) fn build(arguments: &[&str]) -> anyhow::Result<Vec<Built>> {
    let shown = format!("cargo {}", arguments.join(" "));
    let output = cargo()
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {shown}"))?;
    if !output.status.success() {
        bail!("`{shown}` failed\nits messages stand above");
    }
    let messages = String::from_utf8(output.stdout).with_context(|| format!("read {shown}"))?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(messages.filter_map(|message| built(&message)).collect())
}

/// The path of the binary called `name`.
pub(crate) fn path<'a>(built: &'a [Built], name: &str) -> anyhow::Result<&'a PathBuf> {
    let found = built.iter().find(|built| built.name == name && !built.is_test);
    found.map(|built| &built.path).with_context(|| format!("cargo built no `{name}`"))
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(weir_toolchain::root());
    command
}

fn built(message: &Value) -> Option<Built> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let folder = PathBuf::from(text(&message["manifest_path"])?).parent()?.to_owned();
    Some(Built {
        name: text(&message["target"]["name"])?,
        path: text(&message["executable"])?.into(),
        folder,
        is_test: message["profile"]["test"].as_bool()?,
    })
}
