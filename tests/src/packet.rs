//! Packets as text: built for `BPF_PROG_TEST_RUN`, and the cases of `tests/data/packet`.
//!
//! ```text
//! ban 192.0.2.0/24
//! in eth > vlan 7 > ipv4 192.0.2.1 > 198.51.100.1 options 2 > tcp 40000 > 80
//! out drop banned
//!
//! vip 203.0.113.1:80/tcp ipip 10.9.0.1:80
//! in eth > ipv4 192.0.2.1 > 203.0.113.1 > tcp 40000 > 80
//! out send ipip
//! as eth to 02:00:00:00:01:01 > ipv4 10.9.1.1 > 10.9.0.1 df > ipv4 192.0.2.1 > 203.0.113.1 ttl 63 > tcp 40000 > 80
//! ```
//! Layers are `eth [to MAC] [from MAC]`, `vlan ID`, `ethertype HEX`, `ipv4 A > B [options WORDS] [fragment
//! OFFSET] [ihl N] [total N] [version N] [ttl N] [tos N] [id N] [df] [mf]`, `ipv6 A > B [payload N]
//! [version N] [hop N] [class N] [label HEX]`, `ext hop|routing|dest|fragment|auth [offset N] [more] [id N]`,
//! `tcp A > B [flags HEX] [seq N] [ack N] [options HEX]`, `udp A > B [nosum]`, `icmp [TYPE CODE [rest N] [cut N]]`, `icmp6 TYPE CODE …`,
//! `bytes N`, `hex BYTES`; then `truncate N` may cut the whole. `cut` cuts what an ICMP error quotes.
//! Checksums are right. `as` is the whole packet that comes out; without it, it is as it went in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, anyhow, bail};
use weir_abi::checksum::Sum;
use weir_model::Cidr;

/// One case: a world, and what becomes of packets in it.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Banned prefixes.
    pub bans: Vec<Cidr>,
    /// Allowed prefixes.
    pub allowed: Vec<Cidr>,
    /// VIPs: address, how it is forwarded, targets.
    pub vips: Vec<String>,
    /// Packets with what becomes of them.
    pub packets: Vec<Expected>,
}

/// A packet with what becomes of it.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What goes in.
    pub packet: Vec<u8>,
    /// `pass`, `drop`, `send` or `reply`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// What comes out.
    pub out: Vec<u8>,
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
            "vip" => case.vips.push(rest.to_owned()),
            "as" => {
                let last = case.packets.last_mut().ok_or_else(|| anyhow!("`as` without `out`"))?;
                last.out = build(rest).with_context(context)?;
            }
            "allow" => case.allowed.push(rest.parse().with_context(context)?),
            "in" => packet = Some(build(rest).with_context(context)?),
            "out" => {
                let packet = packet.take().ok_or_else(|| anyhow!("`out` without `in`"));
                let (verdict, reason) = rest.split_once(' ').with_context(context)?;
                let packet = packet.with_context(context)?;
                case.packets.push(Expected {
                    out: packet.clone(),
                    packet,
                    verdict: verdict.to_owned(),
                    reason: reason.to_owned(),
                });
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
    let mut next = Next { ethertype: 0, protocol: 59, checksum_at: None };
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
    const NAMES: [&str; 12] = [
        "eth",
        "vlan",
        "ethertype",
        "ipv4",
        "ipv6",
        "ext",
        "tcp",
        "udp",
        "icmp",
        "icmp6",
        "bytes",
        "hex",
    ];
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
    /// Where its checksum over addresses and itself belongs.
    checksum_at: Option<usize>,
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

    fn wrap(&self, mut payload: Vec<u8>, next: &mut Next) -> Result<Vec<u8>> {
        if let Some(size) = self.option("cut") {
            payload.truncate(size);
        }
        let mut header = match self.name {
            "eth" => {
                let mut header = self.mac("to", [2, 0, 0, 0, 0, 2])?.to_vec();
                header.extend(self.mac("from", [2, 0, 0, 0, 0, 1])?);
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
            "ipv4" => self.ipv4(&mut payload, next)?,
            "ipv6" => self.ipv6(&mut payload, next)?,
            "ext" => self.extension(next)?,
            "tcp" | "udp" => self.ports(payload.len(), next)?,
            "icmp" | "icmp6" => self.icmp(&payload, next)?,
            "bytes" => vec![0; self.number(0)?],
            "hex" => hex(&self.words.concat())?,
            other => bail!("unknown layer `{other}`"),
        };
        header.extend(payload);
        Ok(header)
    }

    fn mac(&self, name: &str, default: [u8; 6]) -> Result<[u8; 6]> {
        let Some(at) = self.words.iter().position(|word| *word == name) else { return Ok(default) };
        let bytes: Vec<u8> = self
            .word(at + 1)?
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16))
            .collect::<Result<_, _>>()?;
        bytes.try_into().map_err(|_| anyhow!("an Ethernet address has six bytes"))
    }

    fn has(&self, name: &str) -> bool {
        self.words.contains(&name)
    }

    fn ipv4(&self, payload: &mut [u8], next: &mut Next) -> Result<Vec<u8>> {
        let (source, destination): (Ipv4Addr, Ipv4Addr) =
            (self.word(0)?.parse()?, self.word(1)?.parse()?);
        let options = self.option("options").unwrap_or(0) * 4;
        let words = self.option("ihl").unwrap_or(5 + options / 4);
        let total = self.option("total").unwrap_or(20 + options + payload.len());
        let mut offset = u16::try_from(self.option("fragment").unwrap_or(0))?;
        offset |= if self.has("df") { 0x4000 } else { 0 };
        offset |= if self.has("mf") { 0x2000 } else { 0 };
        let version = self.option("version").unwrap_or(4);
        let tos = u8::try_from(self.option("tos").unwrap_or(0))?;
        let mut header = vec![u8::try_from(version << 4 | words)?, tos];
        header.extend(u16::try_from(total)?.to_be_bytes());
        header.extend(u16::try_from(self.option("id").unwrap_or(0))?.to_be_bytes());
        header.extend(offset.to_be_bytes());
        let ttl = u8::try_from(self.option("ttl").unwrap_or(64))?;
        header.extend([ttl, next.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(vec![1; options]);
        let checksum = sum(Sum::default(), &header).checksum();
        header.splice(10..12, checksum.to_be_bytes());
        if offset & 0x1fff == 0 {
            let pseudo = [&source.octets()[..], &destination.octets()].concat();
            next.put_checksum(&pseudo, payload);
        }
        next.checksum_at = None;
        next.ethertype = 0x0800;
        next.protocol = 4;
        Ok(header)
    }

    fn ipv6(&self, payload: &mut [u8], next: &mut Next) -> Result<Vec<u8>> {
        let (source, destination): (Ipv6Addr, Ipv6Addr) =
            (self.word(0)?.parse()?, self.word(1)?.parse()?);
        let length = self.option("payload").unwrap_or(payload.len());
        let version = self.option("version").unwrap_or(6);
        let class = self.option("class").unwrap_or(0);
        let label = self.words.iter().position(|word| *word == "label");
        let label = label
            .map_or(Ok(0), |at| u32::from_str_radix(self.word(at + 1)?, 16).map_err(Into::into));
        let first = u32::try_from(version << 28 | class << 20)?
            | label.map_err(|error: anyhow::Error| error)?;
        let mut header = first.to_be_bytes().to_vec();
        header.extend(u16::try_from(length)?.to_be_bytes());
        header.extend([next.protocol, u8::try_from(self.option("hop").unwrap_or(64))?]);
        header.extend(source.octets());
        header.extend(destination.octets());
        let pseudo = [&source.octets()[..], &destination.octets()].concat();
        next.put_checksum(&pseudo, payload);
        next.checksum_at = None;
        next.ethertype = 0x86dd;
        next.protocol = 41;
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
        header.extend((offset | u16::from(self.has("more"))).to_be_bytes());
        header.extend(u32::try_from(self.option("id").unwrap_or(0))?.to_be_bytes());
        next.protocol = protocol;
        next.checksum_at = next.checksum_at.filter(|_| offset == 0).map(|at| at + header.len());
        Ok(header)
    }

    fn ports(&self, payload: usize, next: &mut Next) -> Result<Vec<u8>> {
        let mut header = self.number::<u16>(0)?.to_be_bytes().to_vec();
        header.extend(self.number::<u16>(1)?.to_be_bytes());
        if self.name == "tcp" {
            let flags = self.words.iter().position(|word| *word == "flags");
            let flags = flags.map_or(Ok(0x10), |at| {
                u8::from_str_radix(self.word(at + 1)?, 16).map_err(anyhow::Error::from)
            });
            let number = |name, default| u32::try_from(self.option(name).unwrap_or(default));
            header.extend(number("seq", 1)?.to_be_bytes());
            header.extend(number("ack", 2)?.to_be_bytes());
            let options = self.words.iter().position(|word| *word == "options");
            let options = options.map_or(Ok(Vec::new()), |at| hex(self.word(at + 1)?))?;
            let size = u8::try_from(20 + options.len())?;
            header.extend([size << 2, flags?, 1, 0, 0, 0, 0, 0]);
            header.extend(options);
        } else {
            header.extend(u16::try_from(8 + payload)?.to_be_bytes());
            header.extend([0, 0]);
        }
        next.protocol = if self.name == "tcp" { 6 } else { 17 };
        let at = if self.name == "tcp" { 16 } else { 6 };
        next.checksum_at = (!self.has("nosum")).then_some(at);
        Ok(header)
    }

    fn icmp(&self, payload: &[u8], next: &mut Next) -> Result<Vec<u8>> {
        let is_bare = self.words.is_empty();
        let (kind, code) = if is_bare { (8, 0) } else { (self.number(0)?, self.number(1)?) };
        let mut header = vec![kind, code, 0, 0];
        header.extend(u32::try_from(self.option("rest").unwrap_or(0))?.to_be_bytes());
        next.protocol = if self.name == "icmp" { 1 } else { 58 };
        if self.name == "icmp" {
            let checksum = sum(sum(Sum::default(), &header), payload).checksum();
            header.splice(2..4, checksum.to_be_bytes());
            next.checksum_at = None;
        } else {
            next.checksum_at = Some(2);
        }
        Ok(header)
    }
}

fn hex(digits: &str) -> Result<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2).unwrap_or(""), 16);
    Ok((0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>()?)
}

impl Next {
    /// Puts the checksum over addresses and payload in its place.
    fn put_checksum(&self, addresses: &[u8], payload: &mut [u8]) {
        let Some(at) = self.checksum_at else { return };
        // Behind extension headers, which it does not cover.
        let start = match self.protocol_of_payload(at) {
            6 => at - 16,
            17 => at - 6,
            _ => at - 2,
        };
        let Some(covered) = payload.get(start..) else { return };
        let length = u32::try_from(covered.len()).unwrap_or(0);
        let total = sum(Sum::default(), addresses).add(length);
        let total = sum(total.add(u32::from(self.protocol_of_payload(at))), covered);
        let checksum = match total.checksum() {
            0 if self.protocol_of_payload(at) == 17 => 0xffff,
            checksum => checksum,
        };
        if let Some(place) = payload.get_mut(at..at + 2) {
            place.copy_from_slice(&checksum.to_be_bytes());
        }
    }

    /// Headers are 20, 8 or 8 bytes long, extension headers 8: the place tells whose it is.
    fn protocol_of_payload(&self, at: usize) -> u8 {
        match at % 8 {
            0 => 6,
            6 => 17,
            _ => 58,
        }
    }
}

/// The sum of bytes in network order.
fn sum(start: Sum, bytes: &[u8]) -> Sum {
    bytes.chunks(2).fold(start, |sum, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        sum.add(u32::from(u16::from_be_bytes([pair[0], low])))
    })
}

/// Where two packets differ, for people.
#[must_use]
pub fn difference(expected: &[u8], got: &[u8]) -> String {
    let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let shown = |bytes: &[u8]| {
        let from = same.saturating_sub(4);
        let part = bytes.get(from..bytes.len().min(from + 24)).unwrap_or_default();
        part.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    };
    format!(
        "byte {same} of {}: expected {} …, got {} … ({} bytes)",
        expected.len(),
        shown(expected),
        shown(got),
        got.len()
    )
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
