//! A source prefix: address and length, host bits zero.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 prefix. Host bits are always zero, so equal prefixes compare equal.
///
/// IPv4-mapped IPv6 prefixes (`::ffff:192.0.2.0/120`) are IPv4 prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// The prefix of `length` bits that holds `address`; `None` if the length exceeds the family's.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Self::v4(v4, length),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if (96..=128).contains(&length) => Self::v4(v4, length - 96),
                _ => Self::v6(v6, length),
            },
        }
    }

    fn v4(address: Ipv4Addr, length: u8) -> Option<Self> {
        let host_bits = 32u32.checked_sub(u32::from(length))?;
        let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
        Some(Self { address: Ipv4Addr::from(u32::from(address) & mask).into(), length })
    }

    fn v6(address: Ipv6Addr, length: u8) -> Option<Self> {
        let host_bits = 128u32.checked_sub(u32::from(length))?;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Some(Self { address: Ipv6Addr::from(u128::from(address) & mask).into(), length })
    }

    /// The prefix that holds this address alone.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        match address.to_canonical() {
            canonical @ IpAddr::V4(_) => Self { address: canonical, length: 32 },
            canonical @ IpAddr::V6(_) => Self { address: canonical, length: 128 },
        }
    }

    /// The first address of the prefix.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed: 0–32 for IPv4, 0–128 for IPv6.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether `address` lies inside.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self::new(address, self.length) == Some(self)
    }

    /// Whether the prefix is a default route: every address of its family.
    #[must_use]
    pub fn is_everything(self) -> bool {
        self.length == 0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Why a text is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseCidrError {
    /// The part before `/` is neither an IPv4 nor an IPv6 address.
    Address,
    /// The part after `/` is no number, or more than the family has bits.
    Length,
}

impl fmt::Display for ParseCidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an IPv4 or IPv6 address or prefix",
            Self::Length => "prefix length out of range (IPv4: 0–32, IPv6: 0–128)",
        })
    }
}

impl std::error::Error for ParseCidrError {}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, or an address alone.
    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParseCidrError::Address)?;
        let Some(length) = length else { return Ok(Self::host(address)) };
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse().ok().filter(|_| digits).ok_or(ParseCidrError::Length)?;
        Self::new(address, length).ok_or(ParseCidrError::Length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, expected) in [
            ("192.0.2.1", Ok("192.0.2.1/32")),
            ("192.0.2.77/24", Ok("192.0.2.0/24")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("2001:db8::1/32", Ok("2001:db8::/32")),
            ("::1", Ok("::1/128")),
            ("::ffff:192.0.2.1", Ok("192.0.2.1/32")),
            ("::ffff:192.0.2.1/120", Ok("192.0.2.0/24")),
            ("192.0.2.0/33", Err(ParseCidrError::Length)),
            ("192.0.2.0/+8", Err(ParseCidrError::Length)),
            ("192.0.2.0/", Err(ParseCidrError::Length)),
            ("::/129", Err(ParseCidrError::Length)),
            ("example.com", Err(ParseCidrError::Address)),
            ("", Err(ParseCidrError::Address)),
        ] {
            let parsed = text.parse::<Cidr>().map(|cidr| cidr.to_string());
            assert_eq!(parsed.as_deref(), expected.as_ref().copied(), "{text}");
        }
    }

    #[test]
    fn contains_only_its_family_and_prefix() {
        let cidr: Cidr = "192.0.2.0/24".parse().unwrap();
        assert!(cidr.contains("192.0.2.255".parse().unwrap()));
        assert!(cidr.contains("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!cidr.contains("192.0.3.0".parse().unwrap()));
        assert!(!cidr.contains("2001:db8::1".parse().unwrap()));
        assert!("::/0".parse::<Cidr>().unwrap().contains("2001:db8::1".parse().unwrap()));
    }
}
