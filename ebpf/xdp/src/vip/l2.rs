//! Packets to backends as they are, to the Ethernet address of the backend.

use weir_abi::{End, Packet, Send};

use super::forward::{MALFORMED, age, exported, target};
use super::hop;
use super::way::Way;
use crate::frame::Frame;

exported! {
    /// Sends a packet as it is.
    weir_l2, Way, l2
}

#[inline(always)]
fn l2(frame: &Frame, way: &Way) -> Result<End, End> {
    let target = target(frame, way)?;
    age(frame, way, &target.inner)?;
    hop::address(frame.span::<12>(0).ok_or(MALFORMED)?, target.hop.ethernet);
    way.count();
    Ok(End::send(Send::L2, hop::egress(frame, way.network, target.hop.interface)))
}
