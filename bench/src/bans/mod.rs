//! The scenario `bans`: what a ban costs, beside ipset, nft, xdp-filter and a prefix tree.

mod lists;
mod live;
mod load;
mod nanoseconds;
mod tools;

use anyhow::{Result, bail};

use crate::environment::Environment;
use crate::figure::table;
use lists::Prefixes;

/// As it is typed.
pub(crate) const NAME: &str = "bans";
pub(crate) const QUESTION: &str =
    "How fast is a list of a million prefixes in force, and what does a packet pay for it?";
const MISLEADS: &str = "\
`BPF_PROG_TEST_RUN` has no driver and its packet is always in the cache; differences between two \
programs are what a stage costs, and below a nanosecond they are noise. Frames over veth carry no \
interrupts and no DMA, and the sender runs on the same core: real cards drop more. The scattered \
list is the worst for a cache; real lists cluster.";

/// Prefixes of the large list.
const LARGE: usize = 1_000_000;

/// The parts, each with what it is called behind `bans:`.
const PARTS: [(&str, &str); 4] = [
    ("load", "1,000,000 scattered IPv4 prefixes, from a file to in force"),
    ("nanoseconds", "Nanoseconds a packet that a stage adds"),
    ("flood", "A banned source's frames over veth, one core"),
    ("live", "Bans made live while 1,000,000 are in force"),
];

/// Everything, or one part, in interleaved rounds; the report.
pub(crate) fn run(part: Option<&str>, rounds: u32, minute: bool) -> Result<String> {
    if let Some(part) = part.filter(|part| PARTS.iter().all(|(name, _)| name != part)) {
        let known = PARTS.map(|(name, _)| format!("{NAME}:{name}")).join(", ");
        bail!("there is no part `{NAME}:{part}`; there are: {known}");
    }
    tools::install()?;
    let prefixes = Prefixes::scattered(LARGE);
    let mut page = format!("## {NAME}\n\n{QUESTION}\n");
    for (name, title) in PARTS.iter().filter(|(name, _)| part.is_none_or(|part| part == *name)) {
        eprintln!("bench: {NAME}:{name}: {title}");
        let figures = match *name {
            "load" => load::run(&prefixes, rounds)?,
            "nanoseconds" => nanoseconds::run(&prefixes, rounds)?,
            "flood" => live::flood(&prefixes, rounds)?,
            _ => live::bans(&prefixes, minute)?,
        };
        page += &table(title, &figures);
    }
    page += &format!(
        "\n{rounds} rounds each, medians. {}\n\nWhere it misleads: {MISLEADS}\n",
        Environment::read()?
    );
    Ok(page)
}
