//! What a test needs of the machine. Where it is missing, the test says why it is skipped; where
//! `WEIR_NO_SKIP` promises that everything is there (`cargo xtask test`), it fails instead.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Root, for namespaces and BPF. False: return from the test.
#[must_use]
pub fn root() -> bool {
    have(nix::unistd::geteuid().is_root(), "root is needed for network namespaces and BPF")
}

/// A program on the path. False: return from the test.
#[must_use]
pub fn tool(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    have(found, &format!("the program `{name}` is needed"))
}

fn have(it: bool, what: &str) -> bool {
    if !it {
        assert!(std::env::var_os("WEIR_NO_SKIP").is_none(), "no test may be skipped here: {what}");
        eprintln!("skipped: {what}");
    }
    it
}

/// The `weir` binary: `WEIR_BIN`, or built now.
///
/// # Panics
/// It cannot be built.
#[must_use]
pub fn weir() -> &'static PathBuf {
    static WEIR: OnceLock<PathBuf> = OnceLock::new();
    WEIR.get_or_init(|| {
        if let Some(path) = std::env::var_os("WEIR_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--quiet", "--package", "weir"]).status();
        assert!(built.is_ok_and(|status| status.success()), "cargo build --package weir");
        // This test binary lies in target/PROFILE/deps.
        let here = std::env::current_exe().unwrap_or_default();
        let folder = here.ancestors().find(|folder| folder.join("weir").is_file());
        folder.map(|folder| folder.join("weir")).unwrap_or_default()
    })
}
