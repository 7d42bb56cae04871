//! `weir backend`: makes this host take packets for VIPs.

use std::net::IpAddr;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use weir_l4::{Decapsulator, Error};
use weir_model::KernelMode;

use super::{Backend, Hook};

/// What is told of packets at the end.
const TOLD: [&str; 4] = ["ipip", "gue", "foreign", "malformed"];

pub(crate) fn backend(arguments: &Backend) -> Result<ExitCode> {
    if arguments.print {
        print!("{}", with_the_kernels_own_tunnels(&arguments.vips, arguments.gue_port));
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start an event loop")?;
    runtime.block_on(serve(arguments))
}

/// Until a signal ends it. What it added is gone then.
async fn serve(arguments: &Backend) -> Result<ExitCode> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let mut decapsulator = None;
    if !arguments.interfaces.is_empty() {
        let mut loaded = Decapsulator::load(&arguments.vips, arguments.gue_port)?;
        attach(&mut loaded, arguments)?;
        decapsulator = Some(loaded);
    }
    let added = Addresses::add(&arguments.vips)?;
    eprintln!("ready; {} on lo", join(&arguments.vips));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(decapsulator) = &decapsulator {
        let outcomes = decapsulator.outcomes()?;
        let told = outcomes.iter().filter(|(name, _)| TOLD.contains(name));
        let told: Vec<_> = told.map(|(name, count)| format!("{name} {count}")).collect();
        eprintln!("stopped; packets: {}", told.join(", "));
    }
    drop(added);
    Ok(ExitCode::SUCCESS)
}

fn attach(decapsulator: &mut Decapsulator, arguments: &Backend) -> Result<()> {
    let mode = match arguments.mode {
        Hook::Auto => KernelMode::Auto,
        Hook::Driver => KernelMode::Driver,
        Hook::Generic => KernelMode::Generic,
        Hook::Tc => {
            decapsulator.attach_tc(&arguments.interfaces)?;
            eprintln!("decapsulator on {} at tc", arguments.interfaces.join(", "));
            return Ok(());
        }
    };
    let attached = decapsulator.attach(&arguments.interfaces, mode);
    let attached = attached.map_err(|error| match error {
        // Another program's place: tc has room beside it.
        Error::Occupied { .. } => anyhow::anyhow!("{error}\n`--mode tc` works beside it"),
        error => error.into(),
    })?;
    for interface in attached {
        eprintln!("decapsulator on {} in {} mode", interface.name, interface.mode.name());
    }
    Ok(())
}

/// VIPs that were put on `lo`; those that were not there before go when this is dropped.
struct Addresses(Vec<IpAddr>);

impl Addresses {
    fn add(vips: &[IpAddr]) -> Result<Self> {
        let mut added = Self(Vec::new());
        for &vip in vips {
            if run(&arguments("add", vip))? {
                added.0.push(vip);
            }
        }
        if vips.iter().any(IpAddr::is_ipv4) {
            for (path, value) in ARP {
                std::fs::write(path, value).with_context(|| format!("write {value} to {path}"))?;
            }
        }
        Ok(added)
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        for &vip in &self.0 {
            let _ = run(&arguments("delete", vip));
        }
    }
}

/// Nobody on the wire is to learn that the VIP is here, too: it is the balancer's.
const ARP: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/conf/all/arp_ignore", "1"),
    ("/proc/sys/net/ipv4/conf/all/arp_announce", "2"),
];

fn arguments(verb: &str, vip: IpAddr) -> Vec<String> {
    let length = if vip.is_ipv4() { 32 } else { 128 };
    let mut words = vec!["address".to_owned(), verb.to_owned(), format!("{vip}/{length}")];
    words.extend(["dev".to_owned(), "lo".to_owned()]);
    if vip.is_ipv6() && verb == "add" {
        words.push("nodad".to_owned());
    }
    words
}

/// Runs `ip`; false if the address is there already.
fn run(arguments: &[String]) -> Result<bool> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("run ip\ninstall the package iproute2")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(true);
    }
    if stderr.contains("File exists") || stderr.contains("already assigned") {
        return Ok(false);
    }
    bail!("ip {}: {}", arguments.join(" "), stderr.trim())
}

/// What does the same without Weir on this host.
fn with_the_kernels_own_tunnels(vips: &[IpAddr], gue_port: u16) -> String {
    let mut text =
        String::from("# VIPs, without telling the wire of them (for ipip, gue and l2)\n");
    for &vip in vips {
        text += &format!("ip {}\n", arguments("add", vip).join(" "));
    }
    if vips.iter().any(IpAddr::is_ipv4) {
        for (path, value) in ARP {
            let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
            text += &format!("sysctl -w {name}={value}\n");
        }
    }
    text += "# ipip\n\
             ip link add name weir4 type ipip external && ip link set weir4 up\n\
             sysctl -w net.ipv4.conf.weir4.rp_filter=0\n\
             ip link add name weir6 type ip6tnl external && ip link set weir6 up\n";
    text += &format!(
        "# gue\nmodprobe fou && ip fou add port {gue_port} gue\n\
         modprobe fou6 && ip -6 fou add port {gue_port} gue\n"
    );
    text
}

fn join(vips: &[IpAddr]) -> String {
    vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
