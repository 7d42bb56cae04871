//! How a packet gets to its backend.

use weir_abi::vip::{Forward, LOCAL, RETURN};
use weir_abi::{End, Pass, Verdict};

use super::way::Notes;
use super::{l2, nat, tunnel};
use crate::frame::Frame;

/// Sends the packet of these notes to its backend, or from one to its client.
#[inline(always)]
pub fn send(frame: &Frame, notes: &Notes) -> Result<End, End> {
    let way = &notes.way;
    if way.backend == u32::from(LOCAL) {
        way.count();
        return Ok(End::of(Verdict::Pass(Pass::Local)));
    }
    let end = match way.how & 0xff {
        _ if way.how & RETURN != 0 => nat::weir_answer(frame.0, notes),
        how if how == Forward::L2 as u32 => l2::weir_l2(frame.0, way),
        how if how == Forward::Nat as u32 => nat::weir_nat(frame.0, way),
        _ => tunnel::weir_tunnel(frame.0, way),
    };
    Ok(End(end))
}
