//! The stateless challenge: a number that only who has seen our answer can know.

use crate::{Address, Flow};

/// The challenge of a flow at this step, by SipHash-1-3 over addresses, ports and step.
#[inline(always)]
#[must_use]
pub const fn challenge(flow: &Flow, key: [u64; 2], step: u32) -> u32 {
    let ports = (flow.source_port as u64) << 16 | flow.destination_port as u64;
    let hash = siphash(key, flow.source, flow.destination, ports | (step as u64) << 32);
    // The last bit says which of two steps it was.
    hash as u32 & !1 | step & 1
}

/// Whether a number is the challenge of this step, or of the one before, by one of the keys.
#[inline(always)]
#[must_use]
pub fn answers(flow: &Flow, number: u32, keys: &[[u64; 2]; 2], step: u32) -> bool {
    let step = if number & 1 == step & 1 { step } else { step.wrapping_sub(1) };
    challenge(flow, keys[0], step) == number
        || (keys[1][0] | keys[1][1] != 0 && challenge(flow, keys[1], step) == number)
}

#[inline(always)]
const fn siphash(key: [u64; 2], source: Address, destination: Address, last: u64) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    v = absorb(v, source.high);
    v = absorb(v, source.low);
    v = absorb(v, destination.high);
    v = absorb(v, destination.low);
    v = absorb(v, last);
    // The length of the message, 40 bytes.
    v = absorb(v, 40 << 56);
    v[2] ^= 0xff;
    v = round(round(round(v)));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
const fn absorb(mut v: [u64; 4], word: u64) -> [u64; 4] {
    v[3] ^= word;
    v = round(v);
    v[0] ^= word;
    v
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    fn flow(port: u16) -> Flow {
        Flow {
            source: Address::v4(0xc000_0201),
            destination: Address::v4(0xcb00_7101),
            source_port: port,
            destination_port: 443,
            network: 14,
            transport: 34,
            fragment: 0,
            protocol: 6,
            family: 4,
            shape: Shape::Ports,
            unused: 0,
        }
    }

    #[test]
    fn it_is_siphash_1_3() {
        let word = |at: u64| u64::from_le_bytes(core::array::from_fn(|i| at as u8 * 8 + i as u8));
        let (source, destination) =
            (Address { high: word(0), low: word(1) }, Address { high: word(2), low: word(3) });
        assert_eq!(siphash(KEY, source, destination, word(4)), reference());
    }

    /// The standard library's hasher is SipHash-1-3 with a key of zeros, and so cannot be asked; this is the
    /// same algorithm written as its paper has it, byte by byte.
    fn reference() -> u64 {
        let bytes: [u8; 40] = core::array::from_fn(|i| i as u8);
        let (k0, k1) = (KEY[0], KEY[1]);
        let mut v0 = 0x736f6d6570736575 ^ k0;
        let mut v1 = 0x646f72616e646f6d ^ k1;
        let mut v2 = 0x6c7967656e657261 ^ k0;
        let mut v3 = 0x7465646279746573 ^ k1;
        let sip = |v0: &mut u64, v1: &mut u64, v2: &mut u64, v3: &mut u64| {
            *v0 = v0.wrapping_add(*v1);
            *v2 = v2.wrapping_add(*v3);
            *v1 = v1.rotate_left(13);
            *v3 = v3.rotate_left(16);
            *v1 ^= *v0;
            *v3 ^= *v2;
            *v0 = v0.rotate_left(32);
            *v2 = v2.wrapping_add(*v1);
            *v0 = v0.wrapping_add(*v3);
            *v1 = v1.rotate_left(17);
            *v3 = v3.rotate_left(21);
            *v1 ^= *v2;
            *v3 ^= *v0;
            *v2 = v2.rotate_left(32);
        };
        for chunk in bytes.chunks(8) {
            let mut m = 0u64;
            for (i, byte) in chunk.iter().enumerate() {
                m |= u64::from(*byte) << (8 * i);
            }
            v3 ^= m;
            sip(&mut v0, &mut v1, &mut v2, &mut v3);
            v0 ^= m;
        }
        let m = 40u64 << 56;
        v3 ^= m;
        sip(&mut v0, &mut v1, &mut v2, &mut v3);
        v0 ^= m;
        v2 ^= 0xff;
        for _ in 0..3 {
            sip(&mut v0, &mut v1, &mut v2, &mut v3);
        }
        v0 ^ v1 ^ v2 ^ v3
    }

    #[test]
    fn an_answer_counts_for_two_steps_and_two_keys() {
        let (new, old, other) = (KEY, [1, 2], [3, 4]);
        let made = challenge(&flow(40_000), old, 100);
        assert!(answers(&flow(40_000), made, &[old, [0, 0]], 100));
        assert!(answers(&flow(40_000), made, &[new, old], 101));
        assert!(!answers(&flow(40_000), made, &[new, old], 102));
        assert!(!answers(&flow(40_001), made, &[new, old], 100));
        assert!(!answers(&flow(40_000), made, &[new, other], 100));
        assert!(!answers(&flow(40_000), made ^ 2, &[old, new], 100));
    }
}
