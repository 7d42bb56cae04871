//! What the admin API says, as the server writes it and the command line reads it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `GET /status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the running binary.
    pub version: String,
    /// Of the running process.
    pub pid: u32,
    /// Whole seconds since it started.
    pub uptime_seconds: u64,
    /// The process that it took over from, while that answers what is open.
    #[serde(default)]
    pub draining_pid: Option<u32>,
    /// How many configurations were applied.
    pub generation: u64,
    /// Whether it takes requests.
    pub ready: bool,
    /// Whether it is stopping.
    pub draining: bool,
    /// Threads that serve traffic.
    pub reactors: usize,
    /// Open client connections of each.
    #[serde(default)]
    pub reactor_connections: Vec<u32>,
    /// What connections go to reactors by: `cpu`, that which received them, or `hash`.
    #[serde(default)]
    pub selection: String,
    /// The kernel side; absent where it is off.
    pub kernel: Option<Kernel>,
    /// The flood guard; absent where the kernel side is off.
    #[serde(default)]
    pub guard: Option<Guard>,
    /// Where `/metrics`, `/live` and `/ready` are served.
    pub status_address: Option<SocketAddr>,
    /// In the order of the configuration.
    #[serde(default)]
    pub vips: Vec<Vip>,
    /// In the order of the configuration.
    pub listeners: Vec<Listener>,
    /// In the order of the configuration.
    pub upstreams: Vec<Upstream>,
    /// What became of requests.
    pub requests: Requests,
}

/// `POST /upgrade`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Upgrade {
    /// Another binary than the one that runs.
    #[serde(default)]
    pub binary: Option<PathBuf>,
}

/// The XDP side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// `driver` if every interface is in driver mode, else `generic`.
    pub mode: String,
    /// Where the program is attached.
    pub interfaces: Vec<Interface>,
    /// Prefixes banned.
    pub bans: usize,
    /// Nothing is dropped for a ban, but counted as if.
    #[serde(default)]
    pub dry_run: bool,
    /// Prefixes that no ban touches.
    pub allowed: usize,
    /// Packets by verdict and reason.
    pub verdicts: Vec<Verdict>,
}

/// An interface with the program attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `driver` or `generic`.
    pub mode: String,
}

/// How many packets ended so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// `pass` or `drop`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Packets since the program was loaded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it is bound.
    pub address: SocketAddr,
    /// Open client connections.
    pub connections: u32,
}

/// An upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// How it chooses.
    pub algorithm: String,
    /// In the order of the configuration.
    pub backends: Vec<Backend>,
}

/// A backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share.
    pub weight: u32,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Requests sent to it.
    pub requests: u64,
    /// Requests that it failed to answer.
    pub failures: u64,
    /// Requests that it has not answered yet.
    pub open: u32,
}

/// What became of requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Requests {
    /// All of them.
    pub total: u64,
    /// Those sent to a second backend.
    pub retries: u64,
    /// Those that Weir answered itself, by reason; reasons that did not occur are left out.
    pub refused: Vec<Refused>,
}

/// How many requests were refused for a reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// One of `GET /vips`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// `203.0.113.10:53/udp`
    pub address: String,
    /// `ipip`, `gue`, `l2`, `nat`, or `local` while this host serves new flows.
    pub forward: String,
    /// What decides on the backend.
    pub hash: String,
    /// Packets that came for it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// TCP connections that began.
    pub flows: u64,
    /// Packets in slots that were moving.
    pub moving_packets: u64,
    /// Slots that are moving.
    pub moving_slots: usize,
    /// Packets that were dropped, by reason.
    pub drops: Vec<Refused>,
    /// By address.
    pub backends: Vec<VipBackend>,
}

/// A backend of a VIP. Its counters are of all VIPs that it serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipBackend {
    /// Its own address.
    pub address: SocketAddr,
    /// `up` or `down`.
    pub health: String,
    /// Slots of the VIP that are its own, of 65,537.
    pub slots: usize,
    /// Packets sent to it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// TCP connections that began.
    pub flows: u64,
    /// Packets in slots that were moving.
    pub moving_packets: u64,
}

/// `GET /guard`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Guard {
    /// VIPs, then listeners.
    pub guarded: Vec<Guarded>,
    /// What would have been done where rules, or everything, are only tried.
    pub tried: Vec<Refused>,
    /// Whether everything is only tried.
    pub dry_run: bool,
    /// Whether the kernel's switches are changed for cookies (`tcp_syncookies`, `tcp_timestamps`).
    pub cookies: bool,
}

/// A VIP or listener that is guarded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Guarded {
    /// The VIP's name, or the listener's.
    pub name: String,
    /// `vip` or `listener`, of which one may be called like the other.
    pub kind: String,
    /// Where clients send to.
    pub address: String,
    /// How SYNs are answered under attack: `cookies` for sockets of this host, or `challenges`.
    pub answers: String,
    /// `off`, `calm`, `watch` or `attack`.
    pub state: String,
    /// What the operator set: `auto`, `attack` or `off`.
    pub setting: String,
    /// Whole seconds since it is in this state.
    pub since_seconds: u64,
    /// SYNs in the last second.
    pub syn_rate: u64,
    /// SYNs that came.
    pub syns: u64,
    /// SYNs that were answered.
    pub answered: u64,
    /// Cookies and challenges that came back.
    pub proven: u64,
    /// Packets that were dropped for it.
    pub dropped: u64,
}

/// `POST /guard/learn`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Learned {
    /// SYNs a second of a VIP or listener.
    pub syn_rate: Rate,
    /// SYNs a second of a source.
    pub source_syn_rate: Rate,
    /// Packets a second of a source.
    pub source_packet_rate: Rate,
}

/// What was seen, and what follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// The most in a second.
    pub seen: u64,
    /// What would be far enough above.
    pub limit: u64,
}

/// `GET /flows/explain`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// In their order.
    pub stages: Vec<Stage>,
    /// Where the flow's next packet goes; absent if not to a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
}

/// What a stage of the packet path decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub stage: String,
    /// What it decides, in a sentence.
    pub decision: String,
}

/// A list: `{"data": […], "next": …}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// A part of it.
    pub data: Vec<T>,
    /// What to ask for as `after` to get the next part; absent with the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One of `GET /bans`. A line of `weir ban save`, which `weir ban load` reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ban {
    /// The prefix.
    pub cidr: String,
    /// Who asked for it: `operator`, `api`, `rule NAME` or `list NAME`.
    pub origin: String,
    /// Why; may be empty.
    pub reason: String,
    /// Since when, Unix time.
    pub created: u64,
    /// Until when, Unix time; absent if it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// Its packets are counted, but not dropped.
    #[serde(default)]
    pub dry_run: bool,
    /// It drops even what is protected.
    #[serde(default)]
    pub forced: bool,
    /// Packets dropped, or that would have been, for this prefix.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last came, Unix time; absent if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hit: Option<u64>,
}

/// `GET /bans/stats`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BanStats {
    /// Prefixes with a ban.
    pub prefixes: usize,
    /// Of them made one by one.
    pub live: usize,
    /// Prefixes that no ban touches.
    pub allowed: usize,
    /// Nothing is dropped for a ban, but counted as if.
    pub dry_run: bool,
    /// Packets dropped for bans.
    pub dropped_packets: u64,
    /// Packets that would have been dropped.
    pub would_drop_packets: u64,
    /// Bytes of kernel memory of the tables.
    pub memory_bytes: u64,
    /// Share of the table in use, 0 to 1; what is left is for bans made live.
    pub used: f64,
    /// How long the table in force took to build and publish.
    pub built_in_milliseconds: f64,
    /// By name.
    pub lists: Vec<BanListStats>,
}

/// A list of `GET /bans/stats`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BanListStats {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: usize,
    /// When it was loaded, Unix time.
    pub created: u64,
    /// Its packets are counted, but not dropped.
    pub dry_run: bool,
    /// Packets dropped, or that would have been, for its prefixes.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A line of `GET /bans/watch`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Watched {
    /// A packet.
    Packet(WatchedPacket),
    /// Packets not told of.
    Untold {
        /// More than the rate allows.
        limited: u64,
        /// Nobody read fast enough.
        overflowed: u64,
    },
}

/// A packet of `GET /bans/watch`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WatchedPacket {
    /// Unix time, milliseconds.
    pub time_ms: u64,
    /// Who sent it.
    pub source: IpAddr,
    /// `drop`, or `pass` for one that is only tried.
    pub verdict: String,
    /// `banned` or `would_drop`.
    pub reason: String,
    /// The prefix that decided.
    pub prefix: String,
    /// Who asked for its ban; absent if it has ended since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Why there is a ban.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ban_reason: String,
    /// Bytes of the packet.
    pub size: u32,
}

/// Body of `POST /bans`, and of `DELETE /bans` and `/allow` with `cidrs` alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The prefixes.
    pub cidrs: Vec<String>,
    /// How long a ban lasts, as in the configuration: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Count packets, but drop none.
    #[serde(default)]
    pub dry_run: bool,
    /// Ban default routes and what is protected, too.
    #[serde(default)]
    pub force: bool,
    /// Where the operator is logged in from: not to be banned by accident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<IpAddr>,
}

/// What a change did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// Prefixes that are in force and were not before.
    pub added: usize,
    /// Prefixes that are not in force any more.
    pub removed: usize,
    /// Prefixes in force now.
    pub total: usize,
    /// Prefixes of a list that stood in it before.
    #[serde(default)]
    pub duplicates: usize,
    /// Prefixes of a list inside wider ones of it.
    #[serde(default)]
    pub covered: usize,
    /// Lines of a list that could not be read.
    #[serde(default)]
    pub skipped: usize,
    /// The first of them: line, text and why.
    #[serde(default)]
    pub skipped_lines: Vec<String>,
    /// Until it was in force.
    pub milliseconds: f64,
}

/// `GET /bans/test/{ip}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Test {
    /// What was asked.
    pub ip: IpAddr,
    /// `pass` or `drop`.
    pub verdict: String,
    /// `clean`, `allowed`, `protected`, `would_drop` or `banned`.
    pub reason: String,
    /// The ban that decides, or that is overruled.
    pub ban: Option<Ban>,
    /// The allowed prefix that decides.
    pub allowed_by: Option<String>,
    /// The protected prefix that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_by: Option<String>,
    /// Nothing is dropped for a ban, but counted as if.
    #[serde(default)]
    pub dry_run: bool,
}

/// `POST /reload` and `POST /stop`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The generation in force.
    pub generation: u64,
    /// What happened, in a sentence.
    pub message: String,
}

/// Any answer that is no success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What failed, and what to do.
    pub message: String,
    /// The inputs at fault, each with what is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}
