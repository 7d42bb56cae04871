//! Limits a second: of sources by a sketch, and by themselves once they are heavy; of this CPU by a count.

use weir_abi::guard::{Bucket, KINDS, Key, Kind, count, source_key};

use super::maps::{self, Sketch};
use crate::vip::tick;
use crate::vip::way::Notes;

/// A second and how many came in it.
pub struct Window<'a>(pub &'a mut [u32; 2]);

impl Window<'_> {
    /// Counts one more; whether that is more than the limit.
    #[inline(always)]
    pub fn is_over(&mut self, limit: u32) -> bool {
        let now = tick();
        if self.0[0] != now {
            *self.0 = [now, 0];
        }
        self.0[1] += 1;
        self.0[1] > limit
    }
}

/// Whether the source sends more packets than it may.
#[inline(always)]
pub fn is_over_packets(notes: &Notes) -> bool {
    weir_limit(notes, Kind::Packets as u32) != 0
}

/// Whether the source, or a network around it, sends more SYNs than it may.
#[inline(always)]
pub fn is_over_syns(notes: &Notes) -> bool {
    let mut over = 0;
    over |= weir_limit(notes, Kind::Syns as u32);
    over |= weir_limit(notes, Kind::SynsNear as u32);
    over |= weir_limit(notes, Kind::SynsFar as u32);
    over != 0
}

/// Counts one more of a kind; 1 if that is more than its limit. Exported for the verifier's sake.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_limit(notes: *const Notes, kind: u32) -> u32 {
    if notes.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier checks that the caller hands over a whole one.
    let flow = unsafe { &(*notes).flow };
    let (Some(state), Some(sketch)) = (maps::state(), Sketch::open()) else { return 0 };
    let index = kind as usize & (KINDS - 1);
    let limit = state.limits[index];
    if limit == 0 {
        return 0;
    }
    let (prefix, hash) = source_key(flow.source, flow.family, kind, state.masks[index], state.secret);
    let now = tick();
    let seen = count(&sketch, hash, now);
    maps::note_peak(index, seen);
    if seen <= limit {
        return 0;
    }
    let key = Key { prefix, kind, unused: 0 };
    let Some(bucket) = heavy(&key, limit, now) else { return 0 };
    let is_told_of = state.tell_after != 0 && bucket.over >= state.tell_after && bucket.told == 0;
    if is_told_of && !maps::is_allowed(flow.source) {
        bucket.told = u32::from(maps::tell(&key));
    }
    1
}

/// The bucket of a source that the sketch has too often, if it does come too often.
#[inline(always)]
fn heavy(key: &Key, limit: u32, now: u32) -> Option<&'static mut Bucket> {
    let Some(bucket) = maps::bucket(key) else {
        // The sketch may have taken it for another: it is counted from here on.
        maps::promote(key, &Bucket { tick: now, count: 1, ..Bucket::default() });
        return None;
    };
    if bucket.tick != now {
        let was_over = bucket.count > limit && now.wrapping_sub(bucket.tick) == 1;
        bucket.over = if was_over { bucket.over + 1 } else { 0 };
        bucket.tick = now;
        bucket.count = 0;
    }
    bucket.count += 1;
    if bucket.count <= limit {
        return None;
    }
    bucket.dropped += 1;
    Some(bucket)
}
