//! What rustc and clippy don't check: sizes, the arrows between crates, where `unsafe` may stand.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file; see `ARCHITECTURE.md`.
const LINES_MAX: usize = 600;

/// Which crates of ours each may use: the arrows of `ARCHITECTURE.md`.
const ARROWS: &[(&str, &[&str])] = &[
    ("ebpf/abi", &[]),
    ("ebpf/toolchain", &[]),
    ("userspace/model", &[]),
    ("userspace/config", &["model"]),
    ("userspace/net", &["model"]),
    ("userspace/balance", &["model"]),
    ("userspace/health", &["config", "balance", "net", "model"]),
    ("userspace/bans", &["abi", "model"]),
    ("userspace/vips", &["abi"]),
    ("userspace/guard", &["abi", "model"]),
    ("userspace/l4", &["abi", "balance", "bans", "guard", "model", "toolchain", "vips"]),
    ("userspace/l7", &["config", "balance", "net", "model"]),
    ("userspace/relay", &["net", "model"]),
    ("userspace/admin", &["l4", "l7", "health", "config", "balance", "net", "model"]),
    (
        "userspace/weir",
        &["admin", "l4", "l7", "relay", "health", "config", "balance", "net", "model"],
    ),
    ("xtask", &["toolchain"]),
    ("bench", &["abi", "balance", "l4", "model", "tests"]),
    ("tests", &["abi", "balance", "config", "l4", "l7", "model", "net"]),
];

/// Where `unsafe` may stand.
const UNSAFE: [&str; 9] = [
    "ebpf/sock/",
    "ebpf/xdp/",
    "userspace/l4/src/batch.rs",
    "userspace/l4/src/datapath.rs",
    "userspace/l4/src/lookup.rs",
    "userspace/l4/src/mapped.rs",
    "userspace/l4/src/tables.rs",
    "userspace/l4/src/vips/maps.rs",
    "userspace/net/src/options.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file of the project, with its path below the top.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    for folder in ["ebpf", "userspace", "xtask", "bench", "tests"] {
        walk(&root().join(folder), &mut files);
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root()).unwrap().display().to_string(), text)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn files_open_with_what_they_are_for_and_are_short() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{path} does not open with a sentence");
        assert!(text.lines().count() <= LINES_MAX, "{path} is longer than {LINES_MAX} lines");
    }
}

#[test]
fn dependencies_point_one_way() {
    for (folder, allowed) in ARROWS {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let own =
            manifest.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap().to_owned();
        for line in manifest.lines().filter(|line| line.starts_with("weir-")) {
            let name = line.trim_start_matches("weir-");
            let name = name.split(['.', ' ', '=']).next().unwrap();
            assert!(allowed.contains(&name), "{own} must not use weir-{name}");
        }
    }
}

#[test]
fn one_crate_names_aya_one_socket2_and_few_a_serialiser() {
    for (package, allowed) in [
        ("aya", &["userspace/l4"][..]),
        ("socket2", &["userspace/net"]),
        (
            "serde_json",
            &["userspace/config", "userspace/admin", "userspace/weir", "xtask", "bench", "tests"],
        ),
        ("saphyr-parser", &["userspace/config"]),
    ] {
        for (folder, _) in ARROWS {
            let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
            let names =
                manifest.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(package));
            assert!(!names || allowed.contains(folder), "{folder} must not name {package}");
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_may() {
    // Assembled, so that this file does not find itself.
    let keyword = ["un", "safe "].concat();
    for (path, text) in sources() {
        let may = UNSAFE.iter().any(|allowed| path.starts_with(allowed));
        let code = text.lines().map(|line| line.split("//").next().unwrap_or(""));
        let found = code.filter(|line| line.contains(&keyword) && !line.contains('`')).count();
        assert!(may || found == 0, "{path} has no business with {keyword}");
    }
}
