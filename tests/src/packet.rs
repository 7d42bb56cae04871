//! Packets as text: built for `BPF_PROG_TEST_RUN`, and the cases of `tests/data/packet`.
//!
//! ```text
//! ban 192.0.2.0/24
//! in eth > vlan 7 > ipv4 192.0.2.1 > 198.51.100.1 options 2 > tcp 40000 > 80
//! out drop banned
//! ```
//! Layers are `eth`, `vlan ID`, `ethertype HEX`, `ipv4 A > B [options WORDS] [fragment OFFSET]
//! [ihl N] [total N] [version N]`, `ipv6 A > B [payload N] [version N]`, `ext hop|routing|dest|fragment|auth
//! [offset N]`, `tcp A > B`, `udp A > B`, `icmp`, `bytes N`; then `truncate N` may cut the whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, anyhow, bail};
use weir_model::Cidr;

/// One case: a world, and what becomes of packets in it.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Banned prefixes.
    pub bans: Vec<Cidr>,
    /// Allowed prefixes.
    pub allowed: Vec<Cidr>,
    /// Packets with the verdict and the reason that each ends with.
    pub packets: Vec<(Vec<u8>, String, String)>,
}

/// Reads a case.
///
/// # Errors
/// The line that cannot be read.
pub fn case(text: &str) -> Result<Case> {
    let mut case = Case::default();
    let mut packet = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or("").trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let context = || format!("line {number}: {line}");
        match word {
            "" => {}
            "ban" => case.bans.push(rest.parse().with_context(context)?),
            "allow" => case.allowed.push(rest.parse().with_context(context)?),
            "in" => packet = Some(build(rest).with_context(context)?),
            "out" => {
                let packet = packet.take().ok_or_else(|| anyhow!("`out` without `in`"));
                let (verdict, reason) = rest.split_once(' ').with_context(context)?;
                let packet = packet.with_context(context)?;
                case.packets.push((packet, verdict.to_owned(), reason.to_owned()));
            }
            _ => bail!("line {number}: unknown word `{word}`"),
        }
    }
    if case.packets.is_empty() {
        bail!("no packet");
    }
    Ok(case)
}

/// Builds the packet of a description.
///
/// # Errors
/// The layer that cannot be read.
pub fn build(text: &str) -> Result<Vec<u8>> {
    let (layers, cut) = match text.split_once(" truncate ") {
        Some((layers, cut)) => (layers, Some(cut.trim().parse().context("truncate")?)),
        None => (text, None),
    };
    let layers: Vec<Layer> =
        split_layers(layers).into_iter().map(Layer::parse).collect::<Result<_>>()?;
    // From the inside out: each layer knows what it carries.
    let mut payload = Vec::new();
    let mut next = Next { ethertype: 0, protocol: 59 };
    for layer in layers.iter().rev() {
        payload = layer.wrap(payload, &mut next)?;
    }
    if let Some(cut) = cut {
        payload.truncate(cut);
    }
    Ok(payload)
}

/// `a > b > c` into layers; the arrow inside `ipv4 A > B` belongs to its layer.
fn split_layers(text: &str) -> Vec<Vec<&str>> {
    const NAMES: [&str; 10] =
        ["eth", "vlan", "ethertype", "ipv4", "ipv6", "ext", "tcp", "udp", "icmp", "bytes"];
    let mut layers: Vec<Vec<&str>> = Vec::new();
    for part in text.split('>') {
        let words: Vec<_> = part.split_whitespace().collect();
        if words.first().is_some_and(|word| NAMES.contains(word)) {
            layers.push(words);
        } else if let Some(layer) = layers.last_mut() {
            layer.extend(words);
        }
    }
    layers
}

/// What the layer inside said of itself.
struct Next {
    ethertype: u16,
    protocol: u8,
}

struct Layer<'a> {
    name: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Layer<'a> {
    fn parse(words: Vec<&'a str>) -> Result<Self> {
        let name = words.first().copied().context("an empty layer")?;
        Ok(Self { name, words: words.into_iter().skip(1).collect() })
    }

    /// The number behind a word.
    fn option(&self, name: &str) -> Option<usize> {
        let at = self.words.iter().position(|word| *word == name)?;
        self.words.get(at + 1)?.parse().ok()
    }

    fn word(&self, at: usize) -> Result<&'a str> {
        self.words.get(at).copied().with_context(|| format!("{} needs more words", self.name))
    }

    fn number<T: std::str::FromStr>(&self, at: usize) -> Result<T> {
        let word = self.word(at)?;
        word.parse().map_err(|_| anyhow!("{}: `{word}` is no number", self.name))
    }

    fn wrap(&self, payload: Vec<u8>, next: &mut Next) -> Result<Vec<u8>> {
        let mut header = match self.name {
            "eth" => {
                let mut header = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
                header.extend(next.ethertype.to_be_bytes());
                header
            }
            "vlan" => {
                let mut header = self.number::<u16>(0)?.to_be_bytes().to_vec();
                header.extend(next.ethertype.to_be_bytes());
                next.ethertype = if self.words.contains(&"outer") { 0x88a8 } else { 0x8100 };
                header
            }
            "ethertype" => {
                next.ethertype = u16::from_str_radix(self.word(0)?, 16)?;
                Vec::new()
            }
            "ipv4" => self.ipv4(payload.len(), next)?,
            "ipv6" => self.ipv6(payload.len(), next)?,
            "ext" => self.extension(next)?,
            "tcp" | "udp" => self.ports(next)?,
            "icmp" => {
                next.protocol = 1;
                vec![8, 0, 0, 0, 0, 0, 0, 0]
            }
            "bytes" => vec![0; self.number(0)?],
            other => bail!("unknown layer `{other}`"),
        };
        header.extend(payload);
        Ok(header)
    }

    fn ipv4(&self, payload: usize, next: &mut Next) -> Result<Vec<u8>> {
        let (source, destination): (Ipv4Addr, Ipv4Addr) =
            (self.word(0)?.parse()?, self.word(1)?.parse()?);
        let options = self.option("options").unwrap_or(0) * 4;
        let words = self.option("ihl").unwrap_or(5 + options / 4);
        let total = self.option("total").unwrap_or(20 + options + payload);
        let offset = u16::try_from(self.option("fragment").unwrap_or(0))?;
        let version = self.option("version").unwrap_or(4);
        let mut header = vec![u8::try_from(version << 4 | words)?, 0];
        header.extend(u16::try_from(total)?.to_be_bytes());
        header.extend([0, 1]);
        header.extend(offset.to_be_bytes());
        header.extend([64, next.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(vec![1; options]);
        next.ethertype = 0x0800;
        Ok(header)
    }

    fn ipv6(&self, payload: usize, next: &mut Next) -> Result<Vec<u8>> {
        let (source, destination): (Ipv6Addr, Ipv6Addr) =
            (self.word(0)?.parse()?, self.word(1)?.parse()?);
        let payload = self.option("payload").unwrap_or(payload);
        let version = self.option("version").unwrap_or(6);
        let mut header = vec![u8::try_from(version << 4)?, 0, 0, 0];
        header.extend(u16::try_from(payload)?.to_be_bytes());
        header.extend([next.protocol, 64]);
        header.extend(source.octets());
        header.extend(destination.octets());
        next.ethertype = 0x86dd;
        Ok(header)
    }

    fn extension(&self, next: &mut Next) -> Result<Vec<u8>> {
        let (protocol, second) = match self.word(0)? {
            "hop" => (0, 0),
            "routing" => (43, 0),
            "fragment" => (44, 0),
            "auth" => (51, 0),
            "dest" => (60, 0),
            other => bail!("unknown extension header `{other}`"),
        };
        let mut header = vec![next.protocol, second];
        let offset = u16::try_from(self.option("offset").unwrap_or(0) << 3)?;
        header.extend(offset.to_be_bytes());
        header.extend([0; 4]);
        next.protocol = protocol;
        Ok(header)
    }

    fn ports(&self, next: &mut Next) -> Result<Vec<u8>> {
        let mut header = self.number::<u16>(0)?.to_be_bytes().to_vec();
        header.extend(self.number::<u16>(1)?.to_be_bytes());
        let (protocol, size) = if self.name == "tcp" { (6, 20) } else { (17, 8) };
        header.resize(size, 0);
        next.protocol = protocol;
        Ok(header)
    }
}

/// The source address of a packet that was built as IPv4 or IPv6 over Ethernet without tags.
#[must_use]
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.get(12..14)? {
        [0x08, 0x00] => Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(26..30)?).ok()?).into()),
        [0x86, 0xdd] => {
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(22..38)?).ok()?).into())
        }
        _ => None,
    }
}
