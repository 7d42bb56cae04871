//! Fewer wake-ups for a large body: the kernel tells of what has arrived when it is much.

use std::time::Duration;

use crate::io::Wait;
use crate::socket::Socket;
use crate::stream::Stream;

/// So many bytes are much: measured, half as many cost a tenth more a mebibyte, and twice as many would hold twice
/// the memory of the kernel's.
const MUCH: u64 = 256 * 1024;
/// With fewer to come nothing is asked for.
const LITTLE: u64 = 64 * 1024;
/// A source that takes longer for that many is slow: what it sends goes on as it comes, from then on.
const PATIENCE: Duration = Duration::from_millis(50);

/// What is asked of the source of one body; nothing any more when it is dropped.
#[derive(Debug)]
pub(crate) struct LowWater<'a> {
    source: Option<&'a Socket>,
    asked: u64,
}

impl<'a> LowWater<'a> {
    /// For a body that may be large, towards a sink that takes as much at a time.
    pub(crate) fn new(source: &'a Stream, sink: &Stream) -> Self {
        let source = match (source, sink) {
            (Stream::Plain(source), Stream::Plain(_) | Stream::Tls(_)) => Some(source),
            _ => None,
        };
        Self { source, asked: 1 }
    }

    /// So many bytes of the body are still to come: what may be waited for, and for how long.
    pub(crate) fn ask(&mut self, left: u64, timeout: Duration) -> Wait {
        if self.asked > 1 || left >= LITTLE {
            self.set(left.min(MUCH));
        }
        Wait::AtMost(if self.asked > 1 { timeout.min(PATIENCE) } else { timeout })
    }

    /// The source was too slow for what it was asked, if anything was: it will not be asked again.
    pub(crate) fn give_up(&mut self) -> bool {
        let has_asked = self.asked > 1;
        self.set(1);
        self.source = None;
        has_asked
    }

    fn set(&mut self, bytes: u64) {
        let Some(source) = self.source.filter(|_| bytes != self.asked) else { return };
        let count = usize::try_from(bytes).unwrap_or(usize::MAX);
        if source.set_receive_low_water(count).is_ok() {
            self.asked = bytes;
        }
    }
}

impl Drop for LowWater<'_> {
    fn drop(&mut self) {
        self.set(1);
    }
}
