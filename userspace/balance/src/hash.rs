//! Hashes that are the same in every process and version of Weir: what is hashed now must lead to the
//! same backend after a restart, and on the next balancer.

use std::net::{IpAddr, SocketAddr};

/// The golden ratio: what splitmix64 adds.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Keeps tokens apart from what other hashes say of an address.
const TOKEN: u64 = 0x7765_6972_2d74_6f6b;

/// A well mixed number that follows from `bytes`; not for secrets.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
    // The length keeps texts apart that differ in zeros at their end.
    let start = mix(STEP.wrapping_add(bytes.len() as u64));
    words
        .iter()
        .chain([&last])
        .fold(start, |state, word| mix((state ^ u64::from_le_bytes(*word)).wrapping_add(STEP)))
}

/// A number that follows from an address.
pub(crate) fn of_address(address: SocketAddr) -> u64 {
    let bits = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64, u64::from(address.port())]
        .into_iter()
        .fold(STEP, |hash, word| mix(hash ^ word))
}

/// What clients may know a backend by: it does not tell its address at a glance.
pub(crate) fn token(address: SocketAddr) -> u64 {
    mix(of_address(address) ^ TOKEN)
}

/// The finalizer of splitmix64.
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Numbers that follow from a random one.
#[derive(Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    /// Numbers for one purpose; those for another are others.
    pub(crate) fn new(random: u64, purpose: u64) -> Self {
        Self(mix(random ^ purpose.wrapping_mul(STEP)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }
}

/// A word as a number from 0 to 1, which it never is.
pub(crate) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_text_never_changes() {
        for (text, expected) in [
            ("", 0xa706_dd2f_4d19_7e6f),
            ("a", 0x5e02_5f9a_de9e_af3e),
            ("12345678", 0x92df_3520_c5d0_0ece),
            ("a longer text of some words", 0x8b3a_4246_f392_a1d0),
        ] {
            assert_eq!(hash(text.as_bytes()), expected, "{text}: {:#x}", hash(text.as_bytes()));
        }
        assert_ne!(hash(b"a"), hash(b"a\0"));
    }

    #[test]
    fn every_bit_depends_on_every_bit() {
        let mut text = *b"0123456789abcdef0123";
        let before = hash(&text);
        for bit in 0..text.len() * 8 {
            text[bit / 8] ^= 1 << (bit % 8);
            let changed = (before ^ hash(&text)).count_ones();
            assert!((12..=52).contains(&changed), "bit {bit}: {changed}");
            text[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_token_is_the_backends_alone() {
        let address = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
        let mut tokens: Vec<_> = (1..10_000).map(|port| token(address(port))).collect();
        assert_eq!(token(address(1)), tokens[0]);
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 9_999);
    }
}
