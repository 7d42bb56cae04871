//! HTTP/1.1, bytes in and bytes out: knows no socket, no clock and no runtime.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod field;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod scan;

/// A place in a head, which is far smaller than 4 GiB: heads hold many of these, and idle connections some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let place = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: place(start), end: place(end) }
    }

    /// Where `part` lies in `whole`; `part` must be a slice of it.
    pub(crate) fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Self::new(start, start.wrapping_add(part.len()))
    }

    /// The first so many bytes of it.
    pub(crate) fn first(self, count: usize) -> Self {
        Self::new(self.start(), self.start() + count)
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn end(self) -> usize {
        self.end as usize
    }

    /// The bytes at this place.
    pub(crate) fn get(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start()..self.end()).unwrap_or_default()
    }
}

/// The version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
}
