//! The chunked coding, read strictly: RFC 9112 section 7.1 without its tolerance.

/// A chunk's size line with its extensions, and a trailer line.
const LINE_MAX: usize = 1024;
/// All trailer lines of one body.
const TRAILERS_SIZE_MAX: usize = 8 * 1024;

/// Where in a chunked body the next byte belongs.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
    trailers: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What the next bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// This many bytes of content.
    Data(usize),
    /// This many bytes of framing.
    Framing(usize),
    /// The body has ended before the next byte.
    End,
    /// More bytes are needed to tell.
    Incomplete,
}

/// The body breaks the chunked coding; says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Chunked {
    /// What `bytes` begin with; the caller has used all pieces before.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        match self.state {
            State::Size => self.size(bytes),
            State::Data(0) => self.data_end(bytes),
            State::Data(left) => {
                let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                if count == 0 {
                    return Ok(Piece::Incomplete);
                }
                self.state = State::Data(left - count as u64);
                Ok(Piece::Data(count))
            }
            State::DataEnd => self.data_end(bytes),
            State::Trailers => self.trailer(bytes),
            State::Done => Ok(Piece::End),
        }
    }

    /// Whether what follows are trailer lines.
    pub(crate) fn is_in_trailers(&self) -> bool {
        matches!(self.state, State::Trailers)
    }

    fn size(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        let Some(line) = line(bytes)? else { return Ok(Piece::Incomplete) };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at_checked(digits).unwrap_or_default();
        if !(1..=15).contains(&digits.len()) {
            return Err(Malformed("chunk size is not a hexadecimal number"));
        }
        if !(extension.is_empty() || extension.starts_with(b";")) {
            return Err(Malformed("chunk size is followed by something else than an extension"));
        }
        if !extension.iter().all(is_text) {
            return Err(Malformed("chunk extension holds a control character"));
        }
        if !quotes_are_closed(extension) {
            return Err(Malformed("chunk extension holds a quote that is not closed"));
        }
        let size = digits.iter().fold(0u64, |size, &digit| {
            size << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or_default())
        });
        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
        Ok(Piece::Framing(line.len() + 2))
    }

    fn data_end(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::Size;
                Ok(Piece::Framing(2))
            }
            [] | [b'\r'] => {
                self.state = State::DataEnd;
                Ok(Piece::Incomplete)
            }
            _ => Err(Malformed("chunk is longer than its size")),
        }
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        let Some(line) = line(bytes)? else { return Ok(Piece::Incomplete) };
        self.trailers += line.len() + 2;
        if self.trailers > TRAILERS_SIZE_MAX {
            return Err(Malformed("trailers are too large"));
        }
        if line.is_empty() {
            self.state = State::Done;
        } else {
            check_trailer(line)?;
        }
        Ok(Piece::Framing(line.len() + 2))
    }
}

/// The line at the start of `bytes` without its CRLF.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let Some(feed) = memchr::memchr(b'\n', bytes) else {
        // One byte more: the CR of a line that is just short enough.
        return if bytes.len() > LINE_MAX + 1 {
            Err(Malformed("line too long in a chunked body"))
        } else {
            Ok(None)
        };
    };
    let line = bytes.get(..feed).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.ok_or(Malformed("line of a chunked body does not end with CRLF"))?;
    if line.len() > LINE_MAX {
        return Err(Malformed("line too long in a chunked body"));
    }
    Ok(Some(line))
}

/// Whether no quoted string is open at the end of the line: a parser that knows them could look for
/// their end behind it.
fn quotes_are_closed(extension: &[u8]) -> bool {
    let (mut open, mut escaped) = (false, false);
    for byte in extension {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if open => escaped = true,
            b'"' => open = !open,
            _ => {}
        }
    }
    !open
}

fn check_trailer(line: &[u8]) -> Result<(), Malformed> {
    // A trailer must not change how the message is framed, routed or authorised.
    const FORBIDDEN: [&[u8]; 7] = [
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"connection",
        b"authorization",
        b"trailer",
        b"te",
    ];
    let colon = memchr::memchr(b':', line).ok_or(Malformed("trailer without a colon"))?;
    let (name, value) = line.split_at_checked(colon).unwrap_or_default();
    if name.is_empty() || !name.iter().all(is_token) {
        return Err(Malformed("trailer name is not a token"));
    }
    if !value.iter().all(is_text) {
        return Err(Malformed("trailer holds a control character"));
    }
    if FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        return Err(Malformed("trailer that would change the message's framing"));
    }
    Ok(())
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn is_text(byte: &u8) -> bool {
    *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, and bytes used, when `text` arrives in pieces of `step` bytes.
    fn read(text: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
        let (mut chunked, mut used, mut content) = (Chunked::default(), 0, Vec::new());
        let mut arrived = 0;
        loop {
            match chunked.next(&text[used..arrived])? {
                Piece::Data(count) => {
                    content.extend_from_slice(&text[used..used + count]);
                    used += count;
                }
                Piece::Framing(count) => used += count,
                Piece::End => return Ok(Some((content, used))),
                Piece::Incomplete if arrived == text.len() => return Ok(None),
                Piece::Incomplete => arrived = (arrived + step).min(text.len()),
            }
        }
    }

    #[test]
    fn reads_alike_at_once_and_byte_by_byte() {
        let ok = |content: &str, used| Ok(Some((content.as_bytes().to_vec(), used)));
        for (text, expected) in [
            ("0\r\n\r\n", ok("", 5)),
            ("5\r\nhello\r\n0\r\n\r\nGET", ok("hello", 15)),
            ("A;x=\"y\"\r\n0123456789\r\n000\r\nt: v\r\n\r\n", ok("0123456789", 34)),
            ("1\r\na\r\n1\r\nb\r\n0\r\n\r\n", ok("ab", 17)),
            ("1;a=\"b\\\"c\"\r\na\r\n0\r\n\r\n", ok("a", 20)),
            ("5\r\nhel", Ok(None)),
            ("0\r\n", Ok(None)),
        ] {
            for step in [1, 2, 7, 1000] {
                assert_eq!(read(text.as_bytes(), step), expected, "{text:?} by {step}");
            }
        }
        for over in [0, 1] {
            let text = format!("0;{}\r\n\r\n", "x".repeat(LINE_MAX - 2 + over));
            for step in [1, 2, 7, 1000, 10_000] {
                let read = read(text.as_bytes(), step).map(|read| read.is_some());
                let too_long = Malformed("line too long in a chunked body");
                assert_eq!(read, if over == 0 { Ok(true) } else { Err(too_long) }, "by {step}");
            }
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1 ;a\r\n",
            "1\n",
            "1;a\x01\r\n",
            "1;a=\"\r\n",
            "1;a=\"\\\"\r\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na0\r\n\r\n",
            "fffffffffffffffff\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\na b: c\r\n\r\n",
            "0\r\n: c\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nContent-Length: 1\r\n\r\n",
            "0\r\na: b\n\r\n",
            "0\r\na: \0\r\n\r\n",
        ] {
            for step in [1, 1000] {
                assert!(read(text.as_bytes(), step).is_err(), "{text:?} by {step}");
            }
        }
        let endless = format!("1;{}", "a".repeat(2 * LINE_MAX));
        assert!(read(endless.as_bytes(), 100).is_err());
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(TRAILERS_SIZE_MAX));
        assert!(read(trailers.as_bytes(), 1000).is_err());
    }
}
