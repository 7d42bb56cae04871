//! The Internet checksum (RFC 1071), and how it changes with what it covers (RFC 1624).

/// A sum of 16-bit words that is not folded yet. Order of bytes: as numbers in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sum(pub u64);

impl Sum {
    /// With four bytes more.
    #[inline(always)]
    #[must_use]
    pub const fn add(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    /// With eight bytes more.
    #[inline(always)]
    #[must_use]
    pub const fn add_long(self, words: u64) -> Self {
        Self(self.0 + (words >> 32) + (words & 0xffff_ffff))
    }

    /// The same without four bytes that it covers.
    #[inline(always)]
    #[must_use]
    pub const fn subtract(self, word: u32) -> Self {
        Self(self.0 + !word as u64)
    }

    /// The same without eight.
    #[inline(always)]
    #[must_use]
    pub const fn subtract_long(self, words: u64) -> Self {
        self.subtract((words >> 32) as u32).subtract(words as u32)
    }

    /// What a header holds that is covered by the sum.
    #[inline(always)]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        !(sum as u16)
    }

    /// The checksum of a header that held `checksum` before this change.
    #[inline(always)]
    #[must_use]
    pub const fn applied_to(self, checksum: u16) -> u16 {
        Self(self.0 + (!checksum) as u64).checksum()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn of(bytes: &[u8]) -> u16 {
        let words = bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        words.fold(Sum::default(), Sum::add).checksum()
    }

    #[test]
    fn of_a_header_that_is_known() {
        // The example that the encyclopedias have.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(of(&header), 0xb861);
    }

    #[test]
    fn a_change_gives_what_a_fresh_sum_gives() {
        let mut state = 7u64;
        for _ in 0..10_000 {
            let mut bytes = [0; 24];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            let before = of(&bytes[..16]);
            let new: [u8; 8] = bytes[16..].try_into().unwrap();
            let old: [u8; 8] = bytes[4..12].try_into().unwrap();
            bytes[4..12].copy_from_slice(&new);
            let (old, new) = (u64::from_be_bytes(old), u64::from_be_bytes(new));
            let change = Sum::default().subtract_long(old).add_long(new);
            let changed = change.applied_to(before);
            // 0 and 0xffff are the same number; a sum that is not all zero never gives 0xffff.
            assert_eq!(changed, of(&bytes[..16]));
        }
    }
}
