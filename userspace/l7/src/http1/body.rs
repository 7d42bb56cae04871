//! Where the body of a message ends.

use super::chunked::{Chunked, Malformed, Piece};

/// How a body is delimited, and how much of it has passed.
#[derive(Debug)]
pub(crate) enum Body {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunked),
    /// All bytes until the connection is closed.
    UntilClose,
}

impl Body {
    /// A message without content.
    pub(crate) const EMPTY: Self = Self::Length(0);

    /// What `bytes` begin with; the caller has used all pieces before.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Chunked(chunked) => chunked.next(bytes),
            Self::Length(_) | Self::UntilClose if bytes.is_empty() => Ok(Piece::Incomplete),
            Self::Length(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                Ok(Piece::Data(count))
            }
            Self::UntilClose => Ok(Piece::Data(bytes.len())),
        }
    }

    /// Whether what follows are trailer lines.
    pub(crate) fn is_in_trailers(&self) -> bool {
        matches!(self, Self::Chunked(chunked) if chunked.is_in_trailers())
    }

    /// Whether the end of the stream is where this body may end.
    pub(crate) fn ends_at_close(&self) -> bool {
        matches!(self, Self::UntilClose | Self::Length(0))
    }

    /// Whether there is more to come than a small buffer holds, as far as is known.
    pub(crate) fn is_large(&self, small: usize) -> bool {
        match self {
            Self::Length(left) => *left > small as u64,
            Self::Chunked(_) | Self::UntilClose => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_when_no_byte_follows() {
        for (mut body, bytes) in [
            (Body::EMPTY, &b""[..]),
            (Body::Length(3), b"abc"),
            (Body::Chunked(Chunked::default()), b"3\r\nabc\r\n0\r\n\r\n"),
        ] {
            let mut used = 0;
            loop {
                match body.next(&bytes[used..]).unwrap() {
                    Piece::Data(count) | Piece::Framing(count) => used += count,
                    Piece::End => break,
                    Piece::Incomplete => panic!("{body:?} wants more than {bytes:?}"),
                }
            }
            assert_eq!(used, bytes.len());
        }
        assert_eq!(Body::UntilClose.next(b""), Ok(Piece::Incomplete));
    }
}
