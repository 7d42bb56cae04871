//! The scenario `guard`: what a flood does to clients, with the guard and without, and what it costs.

mod flood;
mod nanoseconds;

use anyhow::{Result, bail};

use crate::environment::Environment;
use crate::figure::table;

/// As it is typed.
pub(crate) const NAME: &str = "guard";
pub(crate) const QUESTION: &str =
    "Do clients get through a flood of SYNs, and what does the guard take for a packet?";
const MISLEADS: &str = "\
Flood, balancer, backends and client share two cores: the flood is made and met on one of them, by as \
many live XDP frames as that core makes, and nobody else's packets come in by the flooded interface. There \
is no card whose queues overflow, so an unguarded kernel loses fewer clients here than behind one. \
`BPF_PROG_TEST_RUN` has no driver, and the packet is always in the cache.";

/// The parts, each with what it is called behind `guard:`.
const PARTS: [(&str, &str); 3] = [
    ("listener", "New connections to a listener of this host under a spoofed SYN flood"),
    ("vip", "New connections to a VIP under the same flood"),
    ("nanoseconds", "Nanoseconds a packet, by `BPF_PROG_TEST_RUN`"),
];

/// Everything, or one part, in interleaved rounds; the report.
pub(crate) fn run(part: Option<&str>, rounds: u32) -> Result<String> {
    if let Some(part) = part.filter(|part| PARTS.iter().all(|(name, _)| name != part)) {
        let known = PARTS.map(|(name, _)| format!("{NAME}:{name}")).join(", ");
        bail!("there is no part `{NAME}:{part}`; there are: {known}");
    }
    let mut page = format!("## {NAME}\n\n{QUESTION}\n");
    for (name, title) in PARTS.iter().filter(|(name, _)| part.is_none_or(|part| part == *name)) {
        eprintln!("bench: {NAME}:{name}: {title}");
        let figures = match *name {
            "listener" => flood::listener(rounds)?,
            "vip" => flood::vip(rounds)?,
            _ => nanoseconds::run(rounds)?,
        };
        page += &table(title, &figures);
    }
    page += &format!(
        "\n{rounds} rounds each, medians. {}\n\nWhere it misleads: {MISLEADS}\n",
        Environment::read()?
    );
    Ok(page)
}
