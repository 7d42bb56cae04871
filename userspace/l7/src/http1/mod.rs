//! HTTP/1.1, bytes in and bytes out: knows no socket, no clock and no runtime.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod field;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod scan;

/// A place in a buffer; offsets from the start of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// Where `part` lies in `whole`; `part` must be a slice of it.
    pub(crate) fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Self { start, end: start.wrapping_add(part.len()) }
    }

    /// The bytes at this place.
    pub(crate) fn get(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// The version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
}
