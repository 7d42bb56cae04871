//! What the kernel must do while cookies are answered in the driver: make some itself, and have times that
//! the driver can know. Put back afterwards, and noted on disk, so that also after a `kill -9`.

use std::io;
use std::path::{Path, PathBuf};

use weir_abi::guard::{ECN, TIMES};

/// Each with what it must be: cookies whether a queue is full or not; times without a random offset.
const WANTED: [(&str, &str); 2] =
    [("/proc/sys/net/ipv4/tcp_syncookies", "2"), ("/proc/sys/net/ipv4/tcp_timestamps", "2")];
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const FILE: &str = "guard.sysctls";

/// What was before.
#[derive(Debug, Default)]
pub(crate) struct Sysctls {
    /// Where it is noted; `None` is nowhere.
    file: Option<PathBuf>,
    /// By path.
    before: Vec<(String, String)>,
}

impl Sysctls {
    /// Finds what a process that was killed has left changed.
    pub(crate) fn open(folder: Option<&Path>) -> Self {
        let file = folder.map(|folder| folder.join(FILE));
        let before = file.as_deref().and_then(noted).unwrap_or_default();
        Self { file, before }
    }

    /// Whether something is to be put back.
    pub(crate) fn are_raised(&self) -> bool {
        !self.before.is_empty()
    }

    /// Has the kernel do it.
    pub(crate) fn raise(&mut self) -> io::Result<()> {
        if self.are_raised() {
            return Self::hold();
        }
        let mut before = Vec::new();
        for (path, wanted) in WANTED {
            let held = read(path)?;
            if held != wanted {
                before.push((path.to_owned(), held));
            }
        }
        if before.is_empty() {
            return Ok(());
        }
        // Noted first: whoever is killed behind this line has it put back by the next start.
        match &self.file {
            Some(file) => note(file, &before)?,
            None => tracing::warn!(
                "guard: without a state folder a killed process leaves the kernel's switches changed"
            ),
        }
        self.before = before;
        let raised = Self::hold();
        if raised.is_err() {
            self.restore();
        }
        raised
    }

    /// Writes what is not as it must be.
    fn hold() -> io::Result<()> {
        let differs = |(path, wanted): &&(&str, &str)| read(path).ok().as_deref() != Some(wanted);
        WANTED.iter().filter(differs).try_for_each(|(path, wanted)| write(path, wanted))
    }

    /// Puts back what was.
    pub(crate) fn restore(&mut self) {
        for (path, value) in self.before.drain(..) {
            if let Err(error) = write(&path, &value) {
                tracing::warn!("put back {value} in {path}: {error}");
            }
        }
        if let Some(file) = &self.file {
            // One that is not there needs not to be removed.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// What answers may offer, as [`State::offers`](weir_abi::guard::State) has it.
pub(crate) fn offers() -> u32 {
    let is = |path, values: &[&str]| read(path).is_ok_and(|held| values.contains(&held.as_str()));
    let times = if is("/proc/sys/net/ipv4/tcp_timestamps", &["2"]) { TIMES } else { 0 };
    // On request, or always.
    let ecn = if is("/proc/sys/net/ipv4/tcp_ecn", &["1", "2"]) { ECN } else { 0 };
    times | ecn
}

/// The window scale that the kernel comes to when a cookie comes back: it goes by the largest buffer that
/// a socket may have (`tcp_select_initial_window`).
pub(crate) fn window_scale() -> u32 {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let largest = read("/proc/sys/net/ipv4/tcp_rmem").ok();
    let largest = largest.and_then(|text| text.split_whitespace().last().and_then(number));
    let most = read("/proc/sys/net/core/rmem_max").ok().and_then(|text| number(&text));
    let space = largest.unwrap_or(0).max(most.unwrap_or(0));
    space.checked_ilog2().unwrap_or(0).saturating_sub(15).min(14)
}

fn read(path: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

fn write(path: &str, value: &str) -> io::Result<()> {
    std::fs::write(path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("write {value} to {path}: {error}")))
}

/// Of this boot: after another one the kernel has its own values again.
fn noted(file: &Path) -> Option<Vec<(String, String)>> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines();
    if lines.next() != read(BOOT).ok().as_deref() {
        return None;
    }
    let known = |path: &str| WANTED.iter().any(|(known, _)| *known == path);
    let pair = |line: &str| {
        let (path, value) = line.split_once(' ')?;
        known(path).then(|| (path.to_owned(), value.to_owned()))
    };
    Some(lines.filter_map(pair).collect())
}

fn note(file: &Path, before: &[(String, String)]) -> io::Result<()> {
    let mut text = read(BOOT)? + "\n";
    for (path, value) in before {
        text += &format!("{path} {value}\n");
    }
    let next = file.with_extension("next");
    std::fs::write(&next, text)?;
    std::fs::rename(next, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_in_this_boot_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let before = vec![(WANTED[0].0.to_owned(), "1".to_owned())];
        note(&file, &before).unwrap();
        assert_eq!(noted(&file), Some(before));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("another boot\n{}", text.split_once('\n').unwrap().1))
            .unwrap();
        assert_eq!(noted(&file), None);
    }

    #[test]
    fn a_file_names_no_other_switch() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        note(&file, &[("/proc/sys/kernel/panic".to_owned(), "1".to_owned())]).unwrap();
        assert_eq!(noted(&file), Some(Vec::new()));
    }
}
