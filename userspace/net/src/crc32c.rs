//! The Castagnoli checksum (RFC 3720 appendix B.4), which a PROXY header may carry.

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of the parts, one behind the other. A bit at a time: headers are short and rarely
/// carry one.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(!0, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            (state >> 1) ^ (POLYNOMIAL & (state & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(crc32c(&[bytes]), expected, "{bytes:?}");
            let (one, other) = bytes.split_at(bytes.len() / 3);
            assert_eq!(crc32c(&[one, other]), expected, "{bytes:?}");
        }
    }
}
