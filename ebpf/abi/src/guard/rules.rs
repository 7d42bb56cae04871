//! Packets that no honest host sends.

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Whether a TCP stack may set these flags together.
#[inline(always)]
#[must_use]
pub const fn is_sane(flags: u8) -> bool {
    match flags & (SYN | RST | FIN | ACK) {
        // Something begins, or ends, or goes on.
        SYN | RST | ACK => true,
        _ if flags & SYN != 0 => flags & (RST | FIN) == 0,
        _ if flags & RST != 0 => flags & FIN == 0,
        _ => flags & ACK != 0,
    }
}

/// Whether UDP from this port is mostly the answer of a service to a question that its victim did not ask.
#[inline(always)]
#[must_use]
pub const fn is_reflected(source_port: u16) -> bool {
    matches!(
        source_port,
        17 | 19
            | 53
            | 69
            | 111
            | 123
            | 137
            | 161
            | 389
            | 427
            | 520
            | 1434
            | 1900
            | 3283
            | 3478
            | 3702
            | 5093
            | 5353
            | 5683
            | 10_001
            | 11_211
            | 27_960
            | 30_718
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_go_together() {
        const URG_PSH: u8 = 0x28;
        for flags in [SYN, SYN | ACK, ACK, ACK | FIN, RST, RST | ACK, ACK | URG_PSH, SYN | 0xc0] {
            assert!(is_sane(flags), "{flags:#x}");
        }
        for flags in [0, FIN, SYN | FIN, SYN | RST, RST | FIN, SYN | FIN | ACK, URG_PSH | FIN, 0x20]
        {
            assert!(!is_sane(flags), "{flags:#x}");
        }
    }
}
