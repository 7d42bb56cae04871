//! What limits the traffic that was seen suggests.

/// So much more than the most that was seen is no flood yet.
const MARGIN: f64 = 4.0;
/// No limit is lower, whatever was seen: a quiet minute is no measure.
const SYN_RATE_MIN: u32 = 1_000;
const SOURCE_SYN_RATE_MIN: u32 = 20;
const SOURCE_PACKET_RATE_MIN: u32 = 2_000;

/// The most that was seen in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// SYNs of the VIP or listener that had most.
    pub syns: f64,
    /// Packets of a source.
    pub source_packets: u32,
    /// SYNs of a source.
    pub source_syns: u32,
}

/// Limits for the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suggested {
    /// `syn-rate`
    pub syn_rate: u32,
    /// `source-packet-rate`
    pub source_packet_rate: u32,
    /// `source-syn-rate`
    pub source_syn_rate: u32,
}

/// Limits that nothing of what was seen would have come near.
#[must_use]
pub fn suggest(seen: &Seen) -> Suggested {
    Suggested {
        syn_rate: limit(seen.syns, SYN_RATE_MIN),
        source_packet_rate: limit(seen.source_packets.into(), SOURCE_PACKET_RATE_MIN),
        source_syn_rate: limit(seen.source_syns.into(), SOURCE_SYN_RATE_MIN),
    }
}

/// With two digits that are not 0: nobody believes more.
fn limit(most: f64, least: u32) -> u32 {
    let wanted = (most * MARGIN).max(f64::from(least));
    let unit = 10f64.powf((wanted.log10().floor() - 1.0).max(0.0));
    ((wanted / unit).ceil() * unit) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_round_and_far_enough_away() {
        for (most, least, expected) in
            [(0.0, 1_000, 1_000), (251.0, 1_000, 1_100), (3_333.0, 1_000, 14_000), (5.0, 20, 20)]
        {
            assert_eq!(limit(most, least), expected, "{most}");
        }
    }
}
