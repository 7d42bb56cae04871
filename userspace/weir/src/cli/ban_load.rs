//! `weir ban load`: a list from a file or standard input, with progress.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use weir_admin::api::Changed;
use weir_admin::client::Body;

use super::Load;
use super::ask::{ask, print};
use super::ban::{operator, tell};

/// Bytes that are read at a time.
const READ_SIZE: usize = 1 << 20;
/// As the admin API takes them.
const LIST_SIZE_MAX: usize = 256 << 20;

pub(crate) fn load(load: &Load) -> Result<ExitCode> {
    let Load { file, replace, name, dry_run, force, instance } = load;
    let name = match (name, file.file_stem()) {
        (Some(name), _) => name.clone(),
        (None, _) if file == Path::new("-") => "stdin".to_owned(),
        (None, stem) => stem.unwrap_or_default().to_string_lossy().into_owned(),
    };
    let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_named) {
        bail!(
            "`{name}` is no name of a list: letters, digits, `.`, `_` or `-`\ngive one with `--name`"
        );
    }
    let progress = progress();
    let text =
        read(file, &progress).with_context(|| format!("read the list {}", file.display()))?;
    progress.set_message("in the kernel");
    let bit = |flag: &bool| u8::from(*flag);
    let (replace, dry_run, bits) = (bit(replace), bit(dry_run), bit(force));
    let mut path = format!("/bans?list={name}&replace={replace}&dry-run={dry_run}&force={bits}");
    if let Some(operator) = operator() {
        path += &format!("&operator={operator}");
    }
    let changed: Result<Changed> = ask(instance, Method::POST, &path, Body::Text(text));
    progress.finish_and_clear();
    print(instance, &changed?, |changed| tell(changed, "banned"))
}

/// On standard error, and only where somebody looks.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::no_length();
    let style = "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

fn read(file: &Path, progress: &ProgressBar) -> Result<Vec<u8>> {
    progress.set_message("reading");
    let mut source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(file)?;
        progress.set_length(file.metadata()?.len());
        Box::new(file)
    };
    let mut text = Vec::new();
    loop {
        let count = source.by_ref().take(READ_SIZE as u64).read_to_end(&mut text)?;
        if count == 0 {
            return Ok(text);
        }
        if text.len() > LIST_SIZE_MAX {
            bail!("more than {} MiB; nothing was changed", LIST_SIZE_MAX >> 20);
        }
        progress.inc(count as u64);
    }
}
