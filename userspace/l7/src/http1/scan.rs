//! Where a head ends, looking at each byte once however slowly they arrive.

/// Finds the empty line that ends a head, and refuses line ends other than CRLF on the way.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// Start of the line that is not yet complete.
    line: usize,
    /// How far was looked.
    seen: usize,
}

/// A line ends with LF alone, which some parsers take for a line end and some don't.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BareLineFeed;

impl HeadScan {
    /// The length of the head at the start of `bytes`, with its empty line; `None` while it is not
    /// complete. `bytes` may only grow between two calls.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, BareLineFeed> {
        while let Some(found) = memchr::memchr(b'\n', bytes.get(self.seen..).unwrap_or_default()) {
            let feed = self.seen + found;
            let line = bytes.get(self.line..feed).unwrap_or_default();
            if line.last() != Some(&b'\r') {
                return Err(BareLineFeed);
            }
            self.seen = feed + 1;
            self.line = feed + 1;
            if line.len() == 1 {
                return Ok(Some(feed + 1));
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_alike_at_once_and_byte_by_byte() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", Ok(Some(18))),
            ("a\r\nb\r\n\r\nrest\n", Ok(Some(8))),
            ("\r\n", Ok(Some(2))),
            ("a\r\nb\r\n\r", Ok(None)),
            ("", Ok(None)),
            ("a\n", Err(BareLineFeed)),
            ("a\r\n\nb", Err(BareLineFeed)),
            ("a\r\n\r\r\n", Ok(None)),
        ] {
            assert_eq!(HeadScan::default().end(text.as_bytes()), expected, "{text:?}");
            let mut scan = HeadScan::default();
            let slow = (0..=text.len())
                .map(|length| scan.end(&text.as_bytes()[..length]))
                .find(|found| *found != Ok(None))
                .unwrap_or(Ok(None));
            assert_eq!(slow, expected, "{text:?} byte by byte");
        }
    }
}
