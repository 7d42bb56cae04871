//! The PROXY protocol, versions 1 and 2: who the client is, told by the balancer in front of us or
//! by us to a backend (haproxy.org/download/3.0/doc/proxy-protocol.txt).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use crate::crc32c::crc32c;

/// Bytes of a header of version 1, with its CRLF.
pub const V1_SIZE_MAX: usize = 107;
/// Bytes of a header of version 2: what its fixed part says is behind it.
pub const V2_LENGTH_MAX: usize = 4 * 1024;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The start, command, family and length.
const V2_FIXED: usize = 16;
/// Bytes of both addresses and ports, by family.
const V2_TCP4: usize = 12;
const V2_TCP6: usize = 36;
const V2_UNIX: usize = 216;
const TYPE_CRC32C: u8 = 0x03;

/// What a header says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose connection this is and where it was made to; `None` where the sender speaks for itself
    /// or of something that is not TCP: the connection's own addresses hold then.
    pub addresses: Option<Addresses>,
}

/// The two ends of a TCP connection, of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// Why the first bytes of a connection are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// They begin like neither version.
    NotProxy,
    /// A header of version 1 is too long, or malformed.
    Line,
    /// An address or a port of version 1 is malformed, or not of its family.
    Address,
    /// The version of a binary header is not 2.
    Version,
    /// A command other than LOCAL and PROXY.
    Command,
    /// A family or transport that the protocol does not know.
    Family,
    /// The length is too large, or too small for the addresses.
    Length,
    /// A field behind the addresses does not end inside the header.
    Field,
    /// The checksum is wrong.
    Checksum,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotProxy => "no PROXY header at the start of the connection",
            Self::Line => "PROXY line is malformed",
            Self::Address => "PROXY line has a malformed address or port",
            Self::Version => "PROXY header is of an unknown version",
            Self::Command => "PROXY header has an unknown command",
            Self::Family => "PROXY header has an unknown address family",
            Self::Length => "PROXY header has a length that cannot be",
            Self::Field => "PROXY header has a field that does not end inside it",
            Self::Checksum => "PROXY header has a wrong checksum",
        })
    }
}

impl std::error::Error for ProxyError {}

/// The header at the start of `bytes`, and its length; `None` while it is not complete. What cannot
/// become one is refused as soon as that is clear.
///
/// # Errors
/// [`ProxyError`]: close the connection, whose client is not known.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    if starts_like(bytes, V2_START) {
        parse_v2(bytes)
    } else if starts_like(bytes, V1_START) {
        parse_v1(bytes)
    } else {
        Err(ProxyError::NotProxy)
    }
}

/// Whether `bytes` begin with `start`, as far as they go.
fn starts_like(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let line = bytes.get(..V1_SIZE_MAX).unwrap_or(bytes);
    let Some(end) = line.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        return if bytes.len() < V1_SIZE_MAX { Ok(None) } else { Err(ProxyError::Line) };
    };
    match line.get(end..).unwrap_or_default() {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if end + 1 < V1_SIZE_MAX => return Ok(None),
        _ => return Err(ProxyError::Line),
    }
    let text = line.get(..end).and_then(|text| std::str::from_utf8(text).ok());
    let addresses = read_line(text.ok_or(ProxyError::Line)?)?;
    Ok(Some((Header { addresses }, end + 2)))
}

fn read_line(text: &str) -> Result<Option<Addresses>, ProxyError> {
    let mut words = text.split(' ').skip(1);
    let addresses = match words.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => read_addresses::<Ipv4Addr>(&mut words)?,
        Some("TCP6") => read_addresses::<Ipv6Addr>(&mut words)?,
        _ => return Err(ProxyError::Line),
    };
    if words.next().is_some() {
        return Err(ProxyError::Line);
    }
    Ok(Some(addresses))
}

fn read_addresses<'a, Address: FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<Addresses, ProxyError> {
    let mut address = || -> Option<IpAddr> {
        words.next().and_then(|word| word.parse::<Address>().ok()).map(Into::into)
    };
    let (source, destination) = (address(), address());
    let mut port = || words.next().and_then(port);
    let (source_port, destination_port) = (port(), port());
    let end = |address: Option<IpAddr>, port: Option<u16>| {
        address.zip(port).map(SocketAddr::from).ok_or(ProxyError::Address)
    };
    let (source, destination) = (end(source, source_port)?, end(destination, destination_port)?);
    Ok(Addresses { source, destination })
}

/// Decimal digits without a sign or leading zeros.
fn port(word: &str) -> Option<u16> {
    let plain = word == "0" || !word.starts_with(['0', '+']);
    plain.then(|| word.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let fixed = bytes.get(V2_START.len()..).unwrap_or_default();
    let is_local = match fixed.first() {
        None | Some(0x21) => false,
        Some(0x20) => true,
        Some(other) if other >> 4 != 2 => return Err(ProxyError::Version),
        Some(_) => return Err(ProxyError::Command),
    };
    let [_, family, high, low, rest @ ..] = fixed else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > V2_LENGTH_MAX {
        return Err(ProxyError::Length);
    }
    // The family of LOCAL is to be ignored, with all that follows.
    let size = match (is_local, family) {
        (true, _) | (_, 0x00) => 0,
        (_, 0x11 | 0x12) => V2_TCP4,
        (_, 0x21 | 0x22) => V2_TCP6,
        (_, 0x31 | 0x32) => V2_UNIX,
        _ => return Err(ProxyError::Family),
    };
    if length < size {
        return Err(ProxyError::Length);
    }
    let Some(content) = rest.get(..length) else { return Ok(None) };
    if !is_local && *family != 0x00 {
        let header = bytes.get(..V2_FIXED + length).unwrap_or_default();
        check_fields(header, V2_FIXED + size)?;
    }
    let addresses = match family {
        0x11 if !is_local => read_v4(content),
        0x21 if !is_local => read_v6(content),
        _ => None,
    };
    Ok(Some((Header { addresses }, V2_FIXED + length)))
}

fn read_v4(content: &[u8]) -> Option<Addresses> {
    let (source, rest) = content.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    let (source_port, destination_port) = ports(rest)?;
    Some(Addresses {
        source: SocketAddr::from((*source, source_port)),
        destination: SocketAddr::from((*destination, destination_port)),
    })
}

fn read_v6(content: &[u8]) -> Option<Addresses> {
    let (source, rest) = content.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (source_port, destination_port) = ports(rest)?;
    Some(Addresses {
        source: SocketAddr::from((*source, source_port)),
        destination: SocketAddr::from((*destination, destination_port)),
    })
}

fn ports(rest: &[u8]) -> Option<(u16, u16)> {
    let (source, rest) = rest.split_first_chunk::<2>()?;
    let destination = rest.first_chunk::<2>()?;
    Some((u16::from_be_bytes(*source), u16::from_be_bytes(*destination)))
}

/// Looks through the fields from `start` on: each must end inside the header, and a checksum must
/// be right.
fn check_fields(header: &[u8], start: usize) -> Result<(), ProxyError> {
    let (mut place, mut checksum) = (start, None);
    loop {
        let (kind, high, low) = match header.get(place..).unwrap_or_default() {
            [] => break,
            [kind, high, low, ..] => (*kind, *high, *low),
            _ => return Err(ProxyError::Field),
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(place + 3..place + 3 + length).ok_or(ProxyError::Field)?;
        if kind == TYPE_CRC32C {
            let value = <[u8; 4]>::try_from(value).map_err(|_| ProxyError::Checksum)?;
            if checksum.replace((place + 3, u32::from_be_bytes(value))).is_some() {
                return Err(ProxyError::Checksum);
            }
        }
        place += 3 + length;
    }
    let Some((place, expected)) = checksum else { return Ok(()) };
    // It was made while its own place was zero.
    let (before, after) = header.split_at_checked(place).unwrap_or_default();
    let after = after.get(4..).unwrap_or_default();
    if crc32c(&[before, &[0; 4], after]) == expected { Ok(()) } else { Err(ProxyError::Checksum) }
}

/// Two addresses, brought to one family: IPv4 if both can be written so.
enum Family {
    V4(SocketAddrV4, SocketAddrV4),
    V6(SocketAddrV6, SocketAddrV6),
}

impl Family {
    fn of(source: SocketAddr, destination: SocketAddr) -> Self {
        let v6 = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => SocketAddrV6::new(ip.to_ipv6_mapped(), address.port(), 0, 0),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, address.port(), 0, 0),
        };
        let v4 = |address: SocketAddr| match address.ip().to_canonical() {
            IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, address.port())),
            IpAddr::V6(_) => None,
        };
        match (v4(source), v4(destination)) {
            (Some(source), Some(destination)) => Self::V4(source, destination),
            _ => Self::V6(v6(source), v6(destination)),
        }
    }
}

/// Writes a header of version 1.
pub fn append_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (family, source, destination): (_, SocketAddr, SocketAddr) =
        match Family::of(source, destination) {
            Family::V4(source, destination) => ("TCP4", source.into(), destination.into()),
            Family::V6(source, destination) => ("TCP6", source.into(), destination.into()),
        };
    let (from, to) = (source.ip(), destination.ip());
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    out.extend_from_slice(line.as_bytes());
}

/// Writes a header of version 2.
pub fn append_v2(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(V2_START);
    let (from, to) = match Family::of(source, destination) {
        Family::V4(source, destination) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
            (source.port(), destination.port())
        }
        Family::V6(source, destination) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
            (source.port(), destination.port())
        }
    };
    out.extend_from_slice(&from.to_be_bytes());
    out.extend_from_slice(&to.to_be_bytes());
}

#[cfg(test)]
#[path = "proxy_protocol/tests.rs"]
mod tests;
