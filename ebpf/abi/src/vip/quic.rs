//! Which server a QUIC packet says it is for.
//!
//! A backend whose target has a `server-id` issues connection ids of at least three bytes that begin
//!
//! ```text
//! byte 0      any value: QUIC-LB's first octet, rotation and length, fits
//! bytes 1, 2  the server's id, most significant byte first
//! ```
//! as QUIC-LB's plaintext algorithm does with a server id of two bytes. A client's first packets
//! (Initial, 0-RTT) carry an id that the client made up, so they go by the five-tuple.

use crate::{Bytes, Packet};

/// Long header; QUIC's fixed bit.
const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
/// Types of long headers: bits 4 and 5.
const TYPE: u8 = 0x30;
const TYPE_HANDSHAKE: u8 = 0x20;

/// The id in the packet whose UDP payload begins at `at`; `None` if it has none.
#[inline(always)]
pub fn server_id(packet: &impl Packet, at: usize) -> Option<u16> {
    let first = packet.span::<2>(at)?.u8::<0>();
    if first & FIXED == 0 {
        return None;
    }
    let at = if first & LONG == 0 {
        at + 1
    } else if first & TYPE == TYPE_HANDSHAKE {
        if packet.span::<2>(at + 5)?.u8::<0>() < 3 {
            return None;
        }
        at + 6
    } else {
        return None;
    };
    Some(packet.span::<2>(at + 1)?.u16::<0>())
}
