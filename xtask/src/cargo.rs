//! Calling cargo, and finding what it built.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::say;

/// How a build is optimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// An executable that cargo built.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// Of the target: a binary, or the crate under test.
    pub(crate) name: String,
    /// Of the package.
    pub(crate) package: String,
    pub(crate) path: PathBuf,
}

/// Cargo, in the project's top folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(weir_toolchain::root()).stdin(Stdio::null());
    command
}

/// Runs cargo, with its output on ours.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let status = cargo().args(arguments).status().context("run cargo")?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}

/// Builds, and tells which executables came of it.
pub(crate) fn build(arguments: &[&str], profile: Profile) -> Result<Vec<Built>> {
    say(&format!("cargo {}", arguments.join(" ")));
    let mut command = cargo();
    command.args(arguments).arg("--message-format=json-render-diagnostics");
    if profile == Profile::Release {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().context("run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(executable).collect())
}

/// Builds one binary.
pub(crate) fn binary(package: &str, name: &str, profile: Profile) -> Result<PathBuf> {
    let built = build(&["build", "--package", package, "--bin", name], profile)?;
    let built = built.into_iter().find(|built| built.name == name);
    built.map(|built| built.path).with_context(|| format!("cargo built no binary {name}"))
}

fn executable(line: &str) -> Option<Built> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message["executable"].as_str()?.into();
    let name = message["target"]["name"].as_str()?.to_owned();
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let package = manifest.parent()?.strip_prefix(weir_toolchain::root()).ok()?;
    Some(Built { name, package: package.display().to_string(), path })
}
