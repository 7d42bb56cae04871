//! What this host allows the kernel side to do.

use std::fs;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// Whether the kernel side can work with it.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing needs to be done.
    pub remedy: &'static str,
}

/// The oldest long-term kernel with everything that the kernel side uses: `bpf_link` for XDP, batch
/// operations on the maps, ring buffers.
const KERNEL_MIN: (u32, u32) = (5, 15);

/// Looks at everything that the kernel side needs; changes nothing.
#[must_use]
pub fn doctor() -> Vec<Finding> {
    vec![build(), kernel(), permission(), btf(), jit(), descriptors()]
}

fn build() -> Finding {
    let ok = cfg!(feature = "kernel");
    Finding {
        subject: "kernel side in this binary",
        ok,
        found: if ok { "embedded" } else { "left out" }.to_owned(),
        remedy: if ok { "" } else { "build with the eBPF toolchain: cargo xtask build" },
    }
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let ok = version >= KERNEL_MIN;
    Finding {
        subject: "kernel",
        ok,
        found: release,
        remedy: if ok { "" } else { "Linux 5.15 or newer, or run with `--kernel off`" },
    }
}

fn permission() -> Finding {
    let status = read("/proc/self/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective =
        effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
    let missing: Vec<_> =
        NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    let ok = missing.is_empty();
    Finding {
        subject: "capabilities",
        ok,
        found: if ok {
            "all that are needed".to_owned()
        } else {
            format!("without {}", missing.join(", "))
        },
        remedy: if ok { "" } else { "run as root, or give these capabilities, or `--kernel off`" },
    }
}

fn btf() -> Finding {
    let ok = fs::metadata("/sys/kernel/btf/vmlinux").is_ok();
    Finding {
        subject: "kernel type information (BTF)",
        ok,
        found: if ok { "present" } else { "absent" }.to_owned(),
        remedy: if ok { "" } else { "a kernel with CONFIG_DEBUG_INFO_BTF" },
    }
}

fn jit() -> Finding {
    let found = read("/proc/sys/net/core/bpf_jit_enable");
    // Kernels that always compile have no switch.
    let ok = found != "0";
    Finding {
        subject: "BPF compiler (JIT)",
        ok,
        found: match found.as_str() {
            "" => "always on",
            "0" => "off",
            _ => "on",
        }
        .to_owned(),
        remedy: if ok {
            ""
        } else {
            "sysctl net.core.bpf_jit_enable=1: programs are several times slower"
        },
    }
}

fn descriptors() -> Finding {
    const NEEDED: u64 = 65_536;
    let limits = read("/proc/self/limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)).unwrap_or("0").to_owned();
    let ok = soft == "unlimited" || soft.parse().is_ok_and(|soft: u64| soft >= NEEDED);
    Finding {
        subject: "open files",
        ok,
        found: soft,
        remedy: if ok {
            ""
        } else {
            "two for each client connection: ulimit -n 65536, or LimitNOFILE= in the unit"
        },
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}
