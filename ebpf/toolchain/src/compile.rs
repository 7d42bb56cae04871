//! Compiling the programs for the kernel.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::find::TARGET;
use crate::{Error, Rustc, Toolchain, root};

/// What the objects are made of, below the project's top folder.
pub const SOURCES: [&str; 8] = [
    "ebpf/xdp/src",
    "ebpf/xdp/Cargo.toml",
    "ebpf/xdp/Cargo.lock",
    "ebpf/sock/src",
    "ebpf/sock/Cargo.toml",
    "ebpf/sock/Cargo.lock",
    "ebpf/abi/src",
    "ebpf/abi/Cargo.toml",
];

/// The objects that are compiled, by their folder: the product's, and what tests and benchmarks need.
const OBJECTS: [(&str, &[&str]); 2] = [
    ("ebpf/xdp", &["weir-xdp", "weir-decap", "weir-probe", "weir-flood", "weir-measure"]),
    ("ebpf/sock", &["weir-select", "weir-lookup"]),
];

/// Compiles the programs to ELF objects in `folder`, each named as in [`OBJECTS`] with `.o`.
///
/// # Errors
/// The compiler's or the linker's last words.
pub fn compile(toolchain: &Toolchain, folder: &Path) -> Result<(), Error> {
    OBJECTS.iter().try_for_each(|(source, names)| compile_one(toolchain, source, names, folder))
}

fn compile_one(
    toolchain: &Toolchain,
    source: &str,
    names: &[&str],
    folder: &Path,
) -> Result<(), Error> {
    let target = root().join("target/bpf");
    let mut command = Command::new("cargo");
    clean_environment(&mut command);
    command
        .current_dir(root().join(source))
        .args(["build", "--release", "--locked", "--quiet", "--target", TARGET, "--target-dir"])
        .arg(&target)
        .env("PATH", with_linker(&toolchain.linker))
        .env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf")
        .stdin(Stdio::null());
    match &toolchain.rustc {
        Rustc::Debian(rustc) => command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1"),
        Rustc::Nightly => command.env("RUSTUP_TOOLCHAIN", "nightly").arg("-Zbuild-std=core"),
    };
    let remedy = "the kernel side can be left out: cargo build -p weir --no-default-features";
    let output = command.output();
    let output = output.map_err(|error| Error::new(format!("run cargo: {error}"), remedy))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("compile {source}:\n{}", stderr.trim_end()), remedy));
    }
    for name in names {
        let built = target.join(TARGET).join("release").join(name);
        let object = folder.join(format!("{name}.o"));
        std::fs::copy(&built, &object).map_err(|error| {
            Error::new(format!("copy {} to {}: {error}", built.display(), object.display()), remedy)
        })?;
    }
    Ok(())
}

/// Forgets what an outer cargo (a build script, clippy) has set for its own target.
pub(crate) fn clean_environment(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let is_outer = text.starts_with("RUSTC")
            || text.starts_with("CARGO_")
            || ["RUSTFLAGS", "MAKEFLAGS", "CLIPPY_ARGS", "RUSTDOCFLAGS"].contains(&&*text);
        // How to reach the registry is no matter of the target.
        let is_kept = ["CARGO_HOME", "CARGO_HTTP", "CARGO_NET", "CARGO_REGISTR", "CARGO_SOURCE"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        if is_outer && !is_kept {
            command.env_remove(&name);
        }
    }
}

fn with_linker(folder: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned()].into_iter().chain(env::split_paths(&path));
    env::join_paths(folders).unwrap_or(path)
}
