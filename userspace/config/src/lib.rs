//! `weir.yaml` to a `Config`, complete or refused: the only parser of what users write.
//!
//! Text becomes a tree of nodes that know their place (`node`), `${…}` in it is expanded
//! (`expand`), and each section reads itself, telling every mistake that it finds.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod ban_list;

mod actions;
mod affinity;
mod conditions;
mod expand;
mod guard;
mod health;
mod kernel;
mod key;
mod listeners;
mod mistake;
mod node;
mod process;
mod reference;
mod routes;
mod services;
mod tls;
mod upstreams;
mod value;
mod vips;

use weir_model::Config;

pub use expand::{Environment, ProcessEnvironment};
pub use mistake::{Mistake, Mistakes};
pub use reference::reference;
pub use value::{ValueError, duration};

use key::{Key, Table};

/// The sections of a configuration.
pub(crate) const KEYS: &[Key] = &[
    Key::section("kernel", "the XDP side: where it attaches and what it drops"),
    Key::section("vips", "what the kernel side balances"),
    Key::section("listeners", "what the reactors serve (required, but where there are VIPs)"),
    Key::section("routes", "which requests go to which service; the most specific match wins"),
    Key::section("services", "what routes lead to"),
    Key::section("upstreams", "where services lead to"),
    Key::new("zone", "where this host is: targets there are preferred", "nowhere", "eu-1a"),
    Key::section("admin", "where the operator's commands arrive"),
    Key::section("status", "where `/metrics`, `/live` and `/ready` are served"),
    Key::new("reactors", "threads that serve traffic", "one a core", "2"),
    Key::new(
        "drain-timeout",
        "how long a graceful stop waits for open requests, half of it for those of idle connections",
        "30s",
        "10s",
    ),
    Key::new("state", "folder that keeps bans made live, or off", Config::STATE_DEFAULT, "off"),
    Key::new("log", "the least severe event logged: error, warn, info or debug", "info", "debug"),
];

/// Reads a whole configuration.
///
/// # Errors
/// Every mistake, each with line and column; nothing of a text with mistakes is used.
pub fn parse(text: &str, environment: &dyn Environment) -> Result<Config, Mistakes> {
    let mut mistakes = Mistakes::default();
    let config =
        node::parse(text).map_err(|mistake| mistakes.push(mistake)).ok().and_then(|mut root| {
            expand::expand(&mut root, environment, &mut mistakes);
            read(&root, &mut mistakes)
        });
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        _ => Err(mistakes),
    }
}

fn read(root: &node::Node, mistakes: &mut Mistakes) -> Option<Config> {
    let root = Table::open(root, "the configuration", KEYS, mistakes)?;
    let mut upstreams = upstreams::read(&root, mistakes);
    let services = services::read(&root, &mut upstreams, mistakes);
    let kernel = kernel::read(&root, mistakes);
    Some(Config {
        vips: vips::read(&root, &kernel, &upstreams, mistakes),
        kernel,
        listeners: listeners::read(&root, &services, mistakes),
        routes: routes::read(&root, &services, mistakes),
        services: services.into_iter().map(|named| named.value).collect(),
        upstreams: upstreams.into_iter().map(|named| named.value).collect(),
        zone: root.read("zone", mistakes, value::name),
        admin: process::read_admin(&root, mistakes),
        status: process::read_status(&root, mistakes),
        reactors: root.read("reactors", mistakes, value::reactors),
        drain_timeout: root
            .read("drain-timeout", mistakes, value::timeout)
            .unwrap_or(process::DRAIN_TIMEOUT_DEFAULT),
        state: root
            .read("state", mistakes, kernel::absolute_or_off)
            .unwrap_or_else(|| Some(Config::STATE_DEFAULT.into())),
        log: root.read("log", mistakes, process::log_level).unwrap_or_default(),
    })
}
