//! Read buffers: leased from the reactor while bytes are in flight, given back when idle.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;

use crate::http1::field::Fields;

/// What a buffer for a stream of HTTP/2 holds at first: most heads. There are many of them at a time.
pub(crate) const TINY: usize = 2 * 1024;
/// What a buffer holds at first: most heads with most small bodies.
pub(crate) const SMALL: usize = 16 * 1024;
/// What a buffer for answers holds at first: an answer of middling size comes in one piece.
pub(crate) const MEDIUM: usize = 64 * 1024;
/// What a buffer holds while a large body passes: fewer system calls a byte.
pub(crate) const LARGE: usize = 256 * 1024;
/// What is left free before the first byte that is read: a head that we write mostly fits in front of its body
/// then, where that lies, and both go out as one.
const HEADROOM: usize = 512;
/// Unused buffers of each size that a reactor keeps.
const TINY_KEPT_MAX: usize = 1024;
const SMALL_KEPT_MAX: usize = 1024;
const MEDIUM_KEPT_MAX: usize = 256;
const LARGE_KEPT_MAX: usize = 32;

/// The unused buffers of one reactor.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    tiny: RefCell<Kept>,
    small: RefCell<Kept>,
    medium: RefCell<Kept>,
    large: RefCell<Kept>,
}

/// The unused buffers of one size; the one used last is used first.
#[derive(Debug, Default)]
struct Kept {
    unused: Vec<Vec<u8>>,
    /// How few there were since the last pruning: so many are more than is needed.
    fewest: usize,
}

impl Kept {
    fn take(&mut self) -> Option<Vec<u8>> {
        let taken = self.unused.pop();
        self.fewest = self.fewest.min(self.unused.len());
        taken
    }

    fn prune(&mut self) {
        self.unused.drain(..self.fewest);
        self.fewest = self.unused.len();
    }
}

impl Buffers {
    /// A buffer that holds no memory yet.
    pub(crate) fn buffer(self: &Rc<Self>) -> Buffer {
        self.buffer_of(SMALL)
    }

    /// The same, of another size than the smallest.
    pub(crate) fn buffer_of(self: &Rc<Self>, size: usize) -> Buffer {
        let bytes = Vec::new();
        Buffer { bytes, start: 0, end: 0, size, size_at_first: size, buffers: Rc::clone(self) }
    }

    /// Gives up what nobody has needed since the last time: a peak's memory is not kept for ever.
    pub(crate) fn prune(&self) {
        for kept in [&self.tiny, &self.small, &self.medium, &self.large] {
            kept.borrow_mut().prune();
        }
    }

    fn take(&self, size: usize) -> Vec<u8> {
        self.take_kept(size).unwrap_or_else(|| vec![0; size])
    }

    fn take_kept(&self, size: usize) -> Option<Vec<u8>> {
        self.kept(size)?.0.borrow_mut().take()
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let Some((kept, max)) = self.kept(bytes.len()) else { return };
        let unused = &mut kept.borrow_mut().unused;
        if unused.len() < max {
            unused.push(bytes);
        }
    }

    /// Where buffers of a size are kept, and how many.
    fn kept(&self, size: usize) -> Option<(&RefCell<Kept>, usize)> {
        Some(match size {
            TINY => (&self.tiny, TINY_KEPT_MAX),
            SMALL => (&self.small, SMALL_KEPT_MAX),
            MEDIUM => (&self.medium, MEDIUM_KEPT_MAX),
            LARGE => (&self.large, LARGE_KEPT_MAX),
            _ => return None,
        })
    }
}

/// Unused vectors that a reactor keeps, and how large they may be.
const VECTORS_KEPT_MAX: usize = 1024;
const VECTOR_SIZE_MAX: usize = 64 * 1024;

/// What a connection needs beside buffers while it serves a request.
#[derive(Debug, Default)]
pub(crate) struct Vectors {
    pub(crate) to_backend: Vec<u8>,
    pub(crate) to_client: Vec<u8>,
    pub(crate) request_id: Vec<u8>,
    pub(crate) request_fields: Fields,
    pub(crate) response_fields: Fields,
}

/// The unused vectors of one reactor.
#[derive(Debug, Default)]
pub(crate) struct VectorPool(RefCell<Vec<Vectors>>);

impl VectorPool {
    pub(crate) fn take(&self) -> Option<Vectors> {
        self.0.borrow_mut().pop()
    }

    /// Keeps the memory; what stood in it is nobody else's business.
    pub(crate) fn put(&self, mut vectors: Vectors) {
        for bytes in [&mut vectors.to_backend, &mut vectors.to_client, &mut vectors.request_id] {
            bytes.clear();
        }
        let mut kept = self.0.borrow_mut();
        let is_used = vectors.to_client.capacity() > 0;
        let is_small = |vector: &Vec<u8>| vector.capacity() <= VECTOR_SIZE_MAX;
        let is_small = is_small(&vectors.to_client) && is_small(&vectors.to_backend);
        if is_used && is_small && kept.len() < VECTORS_KEPT_MAX {
            kept.push(vectors);
        }
    }
}

/// Bytes that were read and not yet used: `bytes[start..end]`.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What is leased when there is something to read.
    size: usize,
    size_at_first: usize,
    buffers: Rc<Buffers>,
}

impl Buffer {
    /// What was read and not yet used.
    pub(crate) fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether nothing is left to use.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where to read to: memory is leased if there was none, and moved together at the end of it.
    /// Empty when the buffer is full.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = self.buffers.take(self.size);
        }
        if self.is_empty() {
            // What is large follows what went with the head, in pieces as large as can be.
            let start = if self.bytes.len() < LARGE { HEADROOM } else { 0 };
            (self.start, self.end) = (start, start);
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were read into [`Buffer::space`].
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Appends bytes that were not read from a connection.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let held = self.data().len();
        let size = SMALL.max((held + bytes.len()).next_power_of_two());
        self.grow(size);
        if self.space().len() < bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
        }
        if let Some(space) = self.space().get_mut(..bytes.len()) {
            space.copy_from_slice(bytes);
            self.filled(bytes.len());
        }
    }

    /// Puts `bytes` in front of what is there, if there is room for them.
    pub(crate) fn put_before(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(bytes.len()) else { return false };
        let Some(place) = self.bytes.get_mut(start..self.start) else { return false };
        place.copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// `count` bytes were used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Makes room for `size` bytes in all, keeping what is there.
    pub(crate) fn grow(&mut self, size: usize) {
        if self.bytes.len() >= size {
            return;
        }
        let mut bytes = self.buffers.take(size);
        let held = self.data().len();
        if let Some(place) = bytes.get_mut(..held) {
            place.copy_from_slice(self.data());
        }
        self.buffers.give_back(mem::replace(&mut self.bytes, bytes));
        (self.start, self.end) = (0, held);
    }

    /// Takes `count` bytes out from behind the first `at`, and lets go of the memory that they were in
    /// where what is left needs less.
    pub(crate) fn cut_out(&mut self, at: usize, count: usize) {
        let data = self.data();
        let end = at.saturating_add(count).min(data.len());
        let (before, behind) = (data.get(..at), data.get(end..));
        let (before, behind) = (before.unwrap_or_default(), behind.unwrap_or_default());
        let (held, size) = (before.len() + behind.len(), self.bytes.len());
        if held <= SMALL && size > SMALL {
            let mut bytes = self.buffers.take(SMALL);
            let (first, rest) = bytes.split_at_mut(before.len());
            first.copy_from_slice(before);
            rest.iter_mut().zip(behind).for_each(|(place, byte)| *place = *byte);
            self.buffers.give_back(mem::replace(&mut self.bytes, bytes));
            (self.start, self.end) = (0, held);
        } else {
            self.bytes.copy_within(self.start + end..self.end, self.start + at);
            self.end = self.start + held;
        }
    }

    /// Leases memory of that size where none is leased; more than what is leased anyway only if some lies
    /// unused.
    pub(crate) fn lease(&mut self, size: usize) {
        if self.bytes.is_empty() {
            let kept = self.buffers.take_kept(size);
            self.bytes = kept.unwrap_or_else(|| self.buffers.take(size.min(self.size)));
        }
    }

    /// What is leased from now on holds so many bytes.
    pub(crate) fn prefer(&mut self, size: usize) {
        self.size = self.size.max(size);
        if self.is_empty() && self.bytes.len() < self.size {
            self.release();
        }
    }

    /// Gives the memory back if no byte is left, and begins anew with what was leased at first.
    pub(crate) fn reset(&mut self) {
        self.size = self.size_at_first;
        self.release();
    }

    /// Whether the last read has left no room.
    pub(crate) fn is_full(&self) -> bool {
        self.end > 0 && self.end == self.bytes.len()
    }

    /// How many bytes it can hold now.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Gives the memory back if no byte is left.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            self.buffers.give_back(mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.buffers.give_back(mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffer: &mut Buffer, bytes: &[u8]) {
        buffer.space()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
    }

    #[test]
    fn keeps_what_is_not_used_when_it_moves_and_grows() {
        let mut buffer = Rc::new(Buffers::default()).buffer();
        put(&mut buffer, b"head|body");
        buffer.consume(5);
        buffer.filled(SMALL);
        assert!(buffer.data().starts_with(b"body"));
        assert_eq!(buffer.space().len(), HEADROOM + 5);
        buffer.grow(LARGE);
        assert!(buffer.data().starts_with(b"body"));
        assert_eq!(buffer.space().len(), LARGE - SMALL + HEADROOM + 5);
    }

    #[test]
    fn a_head_goes_in_front_of_what_is_there_if_it_fits() {
        let mut buffer = Rc::new(Buffers::default()).buffer();
        put(&mut buffer, b"head|body");
        buffer.consume(5);
        assert!(buffer.put_before(&[b'x'; HEADROOM + 4]));
        assert!(buffer.data().ends_with(b"xxbody"));
        assert!(buffer.put_before(b"y") && !buffer.put_before(b"z"));
        buffer.consume(HEADROOM + 5);
        assert_eq!(buffer.data(), b"body");
    }

    #[test]
    fn what_is_cut_out_leaves_the_rest_in_less_memory() {
        let buffers = Rc::new(Buffers::default());
        for (size, at, count, left) in
            [(LARGE, 4, 5, "head|next"), (SMALL, 4, 5, "head|next"), (LARGE, 0, 99, "")]
        {
            let mut buffer = buffers.buffer();
            buffer.grow(size);
            put(&mut buffer, b"xhead|body|next");
            buffer.consume(1);
            buffer.cut_out(at, count);
            assert_eq!(buffer.data(), left.as_bytes(), "{size}");
            assert_eq!(buffer.capacity(), SMALL);
        }
        assert!(buffers.take_kept(LARGE).is_some());
    }

    #[test]
    fn vectors_come_back_without_what_stood_in_them() {
        let pool = VectorPool::default();
        let full = || b"of another client".to_vec();
        let (to_backend, to_client, request_id) = (full(), full(), full());
        pool.put(Vectors { to_backend, to_client, request_id, ..Vectors::default() });
        let taken = pool.take().unwrap();
        assert!(taken.to_client.capacity() > 0);
        assert_eq!([taken.to_backend, taken.to_client, taken.request_id].concat(), b"");
    }

    #[test]
    fn memory_goes_back_when_empty_and_is_used_again() {
        let buffers = Rc::new(Buffers::default());
        let mut buffer = buffers.buffer();
        put(&mut buffer, b"x");
        buffer.release();
        let unused = || buffers.small.borrow().unused.len();
        assert_eq!(unused(), 0);
        buffer.consume(1);
        buffer.release();
        assert_eq!(unused(), 1);
        assert_eq!(buffers.buffer().space().len(), SMALL - HEADROOM);
        assert_eq!(unused(), 1);
    }

    #[test]
    fn memory_that_nobody_has_needed_for_a_while_is_given_up() {
        let buffers = Rc::new(Buffers::default());
        let lease = |count: usize| {
            let leased: Vec<_> = (0..count).map(|_| buffers.take(SMALL)).collect();
            leased.into_iter().for_each(|bytes| buffers.give_back(bytes));
        };
        for (needed, left) in [(5, 5), (2, 2), (2, 2), (0, 0)] {
            lease(needed);
            buffers.prune();
            assert_eq!(buffers.small.borrow().unused.len(), left, "{needed}");
        }
    }
}
