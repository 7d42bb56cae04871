//! What an operator types.

mod ask;
#[cfg(feature = "kernel")]
mod backend;
mod ban;
mod ban_load;
mod ban_watch;
mod check;
mod doctor;
mod guard;
mod route;
mod show;
mod vip;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_model::{Admin, Kernel, KernelMode};

use crate::run;

/// A kernel-accelerated layer-4/layer-7 load balancer and API gateway.
#[derive(Debug, Parser)]
#[command(name = "weir", version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run in the foreground until TERM, QUIT or INT; HUP reloads the configuration, USR2 upgrades
    Run(Run),
    /// Validate a configuration: every mistake with file:line:column
    Check {
        #[command(flatten)]
        file: File,
    },
    /// Show the health of everything at a glance
    Status {
        #[command(flatten)]
        instance: Instance,
    },
    /// Drop sources in the kernel
    #[command(subcommand)]
    Ban(Ban),
    /// Sources that no ban touches
    #[command(subcommand)]
    Allow(Allow),
    /// Routes: which requests go where
    #[command(subcommand)]
    Route(Routes),
    /// VIPs: what the kernel side balances
    #[command(subcommand)]
    Vip(Vips),
    /// What floods meet: limits, cookies, challenges
    #[command(subcommand)]
    Guard(Guards),
    /// Flows through the kernel side
    #[command(subcommand)]
    Flow(Flow),
    /// Show what is going on, again and again: packets by verdict, VIPs, backends
    Top(Top),
    /// Have the running instance read its configuration again: applied in whole or refused
    Reload {
        #[command(flatten)]
        instance: Instance,
    },
    /// Start the binary anew, as it is on disk now, and leave everything to it: no connection is refused
    ///
    /// The new process gets the sockets, the configuration is read again, and only once it serves does the
    /// old one stop accepting, answer what is open and end. If it cannot start, nothing changes.
    Upgrade {
        /// Another binary than the one that runs
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        #[command(flatten)]
        instance: Instance,
    },
    /// Stop the running instance once open requests are answered
    Stop {
        /// Stop at once, cutting open requests
        #[arg(long)]
        fast: bool,
        /// Take down the kernel side, too: without it bans stay in force, ready to be taken over
        #[arg(long)]
        detach: bool,
        /// Where bans were pinned, if no instance runs that knows
        #[arg(long, value_name = "FOLDER", default_value = Kernel::PIN_DEFAULT)]
        pin: PathBuf,
        #[command(flatten)]
        instance: Instance,
    },
    /// Make this host take packets for VIPs that a balancer sends here; runs until TERM or INT
    #[cfg(feature = "kernel")]
    Backend(Backend),
    /// Tell what this host's kernel, capabilities and limits allow, each with its remedy
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[cfg(feature = "kernel")]
#[derive(Debug, Args)]
pub(crate) struct Backend {
    /// The VIPs, which are put on `lo`
    #[arg(required = true, value_name = "VIP")]
    pub(crate) vips: Vec<std::net::IpAddr>,
    /// Where packets in IPIP or GUE come in; not needed for l2 and nat
    #[arg(short = 'i', long = "interface", value_name = "NAME")]
    pub(crate) interfaces: Vec<String>,
    /// Where the decapsulator runs
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub(crate) mode: Hook,
    /// The UDP port of GUE
    #[arg(long, value_name = "PORT", default_value_t = weir_model::Tunnel::GUE_PORT_DEFAULT)]
    pub(crate) gue_port: u16,
    /// Print the commands that do the same with the kernel's own tunnels, and do nothing
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Routes {
    /// Tell which route of a configuration serves a request, and why not those asked before
    Explain(Explain),
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// What is asked for, like https://api.example.com/v1/orders?x=1
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The method
    #[arg(short = 'X', long, default_value = "GET")]
    pub(crate) method: String,
    /// A header field, like `X-Version: 2` or `Cookie: group=a`
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Where the client is
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) source: std::net::IpAddr,
    /// The name asked for in the TLS handshake; without it the URL's, for https
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) file: File,
    /// Where XDP runs, over what the configuration says
    #[arg(long, value_name = "MODE")]
    pub(crate) kernel: Option<Mode>,
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The configuration
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        default_value = "/etc/weir/weir.yaml"
    )]
    pub(crate) path: PathBuf,
}

/// Which running instance is asked, and how it answers.
#[derive(Debug, Args)]
pub(crate) struct Instance {
    /// Admin socket of the running instance
    #[arg(short = 's', long, value_name = "PATH", env = "WEIR_SOCKET", default_value = Admin::SOCKET_DEFAULT)]
    pub(crate) socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// In the driver where it can, else generic
    Auto,
    /// In the driver, or not at all
    Driver,
    /// In the network stack
    Generic,
    /// No kernel side
    Off,
}

/// Where the decapsulator of a backend runs.
#[cfg(feature = "kernel")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hook {
    /// XDP, in the driver where it can, else generic
    Auto,
    /// XDP in the driver, or not at all
    Driver,
    /// XDP in the network stack
    Generic,
    /// At tc: beside an XDP program of somebody else
    Tc,
}

impl From<Mode> for KernelMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Driver => Self::Driver,
            Mode::Generic => Self::Generic,
            Mode::Off => Self::Off,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ban {
    /// Ban prefixes; a prefix that is banned already gets the new reason and end
    Add {
        /// Addresses or prefixes: 192.0.2.1, 198.51.100.0/24, 2001:db8::/32
        #[arg(required = true)]
        cidrs: Vec<String>,
        /// How long: 90s, 10m, 1h, 7d; without it until it is deleted
        #[arg(long, value_name = "DURATION")]
        ttl: Option<String>,
        /// Why, for whoever looks at the list later
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// Count what would be dropped, but drop nothing
        #[arg(long)]
        dry_run: bool,
        /// Ban also default routes, what is protected (loopback, backends) and where you are
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        instance: Instance,
    },
    /// End the bans of exactly these prefixes, or of a whole list
    Del {
        /// As `ban list` prints them
        #[arg(required_unless_present = "list")]
        cidrs: Vec<String>,
        /// All prefixes of this list, and the list itself
        #[arg(long, value_name = "LIST", conflicts_with = "cidrs")]
        list: Option<String>,
        #[command(flatten)]
        instance: Instance,
    },
    /// List bans with origin, end, hits and reason, by prefix
    List {
        /// No more prefixes than so many
        #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
        limit: usize,
        #[command(flatten)]
        instance: Instance,
    },
    /// Tell what happens to packets of an address, and which prefix of which list decides
    Test {
        /// An address
        ip: std::net::IpAddr,
        #[command(flatten)]
        instance: Instance,
    },
    /// Load a list, in force wholly or not at all; it survives a restart
    ///
    /// Lines are prefixes, addresses, ranges (a-b), JSON objects as `ban save` writes them, the output
    /// of `ipset save` or of `nft list set`; `#` and `;` begin comments.
    Load(Load),
    /// Write all bans as JSON lines, which `ban load` reads
    Save {
        /// Where to; `-` is standard output
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Only bans of this list
        #[arg(long, value_name = "LIST")]
        name: Option<String>,
        #[command(flatten)]
        instance: Instance,
    },
    /// Show lists with their hits, kernel memory, how full the table is
    Stats {
        #[command(flatten)]
        instance: Instance,
    },
    /// Watch packets as they are dropped, at most 1,000 a second and CPU; the rest is counted
    Watch {
        /// End after so many packets
        #[arg(long, value_name = "PACKETS")]
        count: Option<u64>,
        #[command(flatten)]
        instance: Instance,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The list; `-` is standard input
    pub(crate) file: PathBuf,
    /// Replace what the list held before instead of adding to it
    #[arg(long)]
    pub(crate) replace: bool,
    /// The list's name, without it the file's; lists are replaced one by one
    #[arg(long, value_name = "LIST")]
    pub(crate) name: Option<String>,
    /// Count what the list would drop, but drop nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Load it even if it holds a default route, or where you are
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) instance: Instance,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vips {
    /// List every VIP with its counters and backends
    List {
        #[command(flatten)]
        instance: Instance,
    },
    /// Have listeners of this host serve a VIP's new flows, or its backends again
    ///
    /// Flows that exist stay where they are until they are silent for the VIP's `idle`.
    Move {
        /// As the configuration names it
        name: String,
        /// Who serves
        to: Serve,
        #[command(flatten)]
        instance: Instance,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Guards {
    /// List how each VIP and listener is guarded
    List {
        #[command(flatten)]
        instance: Instance,
    },
    /// Guard one by its rate, as if it were attacked, or not at all; until the next start
    Set {
        /// The VIP's name, or the listener's
        name: String,
        /// How
        to: GuardTo,
        #[command(flatten)]
        instance: Instance,
    },
    /// Watch traffic for a while and print limits that nothing of it would have come near
    Learn {
        /// For how long
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
        #[command(flatten)]
        instance: Instance,
    },
}

/// How a VIP or listener is guarded.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum GuardTo {
    /// By its rate, as the configuration says
    Auto,
    /// As if it were attacked
    Attack,
    /// Not at all
    Off,
}

/// Who serves a VIP.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Serve {
    /// Listeners of this host
    Local,
    /// The backends of its upstream
    Forward,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Flow {
    /// Tell which stage decides what for a flow, from the maps in force
    Explain {
        /// The client: 192.0.2.1:40000 or [2001:db8::1]:40000
        source: std::net::SocketAddr,
        /// What it sends to
        destination: std::net::SocketAddr,
        /// UDP instead of TCP
        #[arg(long)]
        udp: bool,
        #[command(flatten)]
        instance: Instance,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds between two looks
    #[arg(short = 'n', long, value_name = "SECONDS", default_value_t = 1.0)]
    pub(crate) interval: f64,
    /// End after so many looks
    #[arg(long, value_name = "LOOKS")]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) instance: Instance,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Allow {
    /// Allow prefixes
    Add {
        /// Addresses or prefixes
        #[arg(required = true)]
        cidrs: Vec<String>,
        #[command(flatten)]
        instance: Instance,
    },
    /// Allow exactly these prefixes no more
    Del {
        /// As `allow list` prints them
        #[arg(required = true)]
        cidrs: Vec<String>,
        #[command(flatten)]
        instance: Instance,
    },
    /// List every allowed prefix
    List {
        #[command(flatten)]
        instance: Instance,
    },
}

/// Does what was typed.
pub(crate) fn execute(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check { file } => check::check(&file.path),
        Command::Status { instance } => show::status(&instance),
        Command::Ban(command) => ban::ban(&command),
        Command::Allow(command) => ban::allow(&command),
        Command::Route(Routes::Explain(arguments)) => route::explain(&arguments),
        Command::Vip(command) => vip::vip(&command),
        Command::Guard(command) => guard::guard(&command),
        Command::Flow(command) => vip::flow(&command),
        Command::Top(arguments) => vip::top(&arguments),
        Command::Reload { instance } => ask::reload(&instance),
        Command::Upgrade { binary, instance } => ask::upgrade(&instance, binary.as_deref()),
        Command::Stop { fast, detach, pin, instance } => {
            ask::stop(&instance, fast, detach.then_some(pin.as_path()))
        }
        #[cfg(feature = "kernel")]
        Command::Backend(arguments) => backend::backend(&arguments),
        Command::Doctor { json } => doctor::doctor(json),
    }
}
