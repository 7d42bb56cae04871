//! Answers that are compressed on their way: which, and with what.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use weir_model::{Compress, Encoding};

use crate::http1::body::Body;
use crate::http1::field::{Fields, Kind, list};
use crate::http1::response::ResponseHead;

/// What takes little time for most of the gain.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
/// The window of brotli: 256 KiB, as it is held for each answer.
const BROTLI_WINDOW_BITS: u32 = 18;
const BROTLI_BUFFER: usize = 4096;
const ZSTD_LEVEL: i32 = 3;
/// The window of zstd, for the same reason.
const ZSTD_WINDOW_BITS: u32 = 18;

/// The first of the encodings that the client takes; `q=0` is no.
pub(crate) fn negotiate(compress: &Compress, request: &Fields, head: &[u8]) -> Option<Encoding> {
    let accepts = |encoding: &Encoding| {
        let mut any = None;
        for value in request.named("accept-encoding", head) {
            for element in list(value) {
                let (name, quality) = weighed(element);
                if name.eq_ignore_ascii_case(encoding.name().as_bytes()) {
                    return quality;
                }
                if name == b"*" {
                    any = Some(quality);
                }
            }
        }
        any.unwrap_or(false)
    };
    compress.encodings.iter().copied().find(accepts)
}

/// An element of the list, and whether its weight is above 0.
fn weighed(element: &[u8]) -> (&[u8], bool) {
    let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
    let is_zero = |weight: &[u8]| weight.iter().all(|byte| b"0.".contains(byte));
    (name, !weight.is_some_and(is_zero))
}

/// Whether an answer with that body is one to compress.
pub(crate) fn suits(
    compress: &Compress,
    response: &ResponseHead,
    head: &[u8],
    body: &Body,
) -> bool {
    let fields = &response.fields;
    let is_large = match body {
        Body::Length(length) => *length >= compress.min_size.max(1),
        Body::Chunked(_) | Body::UntilClose => true,
    };
    let is_encoded = fields.named("content-encoding", head).next().is_some();
    let is_fixed = fields
        .named("cache-control", head)
        .flat_map(list)
        .any(|directive| directive.eq_ignore_ascii_case(b"no-transform"));
    is_large
        && matches!(response.status, 200..=203 | 205 | 207..=299 | 400..=599)
        && !is_encoded
        && !is_fixed
        && fields.named("content-type", head).next().is_some_and(|it| is_of(&compress.types, it))
}

fn is_of(types: &[String], value: &[u8]) -> bool {
    let kind = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    types.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => kind
            .get(..start.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes())),
        None => kind.eq_ignore_ascii_case(known.as_bytes()),
    })
}

/// Whether a field of an answer goes on once it is compressed.
pub(crate) fn keeps(kind: Kind, name: &[u8]) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    // What it says of the bytes does not hold of others.
    kind != Kind::ContentLength
        && !is("accept-ranges")
        && !is("content-md5")
        && !is("digest")
        && !is("etag")
}

/// Compresses one answer, piece by piece.
pub(crate) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// # Errors
    /// There is no memory.
    pub(crate) fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Gzip => {
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))
            }
            Encoding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW_BITS,
            ))),
            Encoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_BITS)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Takes content; what comes of it is given by [`Encoder::take`].
    pub(crate) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(content),
            Self::Brotli(encoder) => encoder.write_all(content),
            Self::Zstd(encoder) => encoder.write_all(content),
        }
    }

    /// Sees to it that the client can read all that was taken.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    /// What has come of it so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        })
    }

    /// The rest, after the last content.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request::RequestHead;

    #[test]
    fn the_client_decides_among_what_we_prefer() {
        let all = Encoding::NAMES.map(|(_, encoding)| encoding).to_vec();
        let compress = Compress { encodings: all, types: Vec::new(), min_size: 0 };
        for (accepted, expected) in [
            ("", None),
            ("accept-encoding: gzip\r\n", Some("gzip")),
            ("accept-encoding: gzip, br, zstd\r\n", Some("zstd")),
            ("accept-encoding: gzip;q=1.0, br;q=0\r\n", Some("gzip")),
            ("accept-encoding: *\r\n", Some("zstd")),
            ("accept-encoding: *, zstd;q=0.000\r\n", Some("br")),
            ("accept-encoding: *;q=0, gzip\r\n", Some("gzip")),
            ("accept-encoding: identity\r\n", None),
        ] {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{accepted}\r\n");
            let mut request = RequestHead::default();
            request.parse(head.as_bytes(), &weir_model::Limits::default()).unwrap();
            let chosen = negotiate(&compress, &request.fields, head.as_bytes());
            assert_eq!(chosen.map(Encoding::name), expected, "{accepted}");
        }
    }

    #[test]
    fn types_by_name_and_by_kind() {
        let types = ["text/*".to_owned(), "application/json".to_owned()];
        for (value, expected) in [
            ("text/html; charset=utf-8", true),
            ("Text/Plain", true),
            ("application/json", true),
            ("application/json5", false),
            ("image/png", false),
            ("", false),
        ] {
            assert_eq!(is_of(&types, value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn what_was_flushed_can_be_read_and_the_rest_follows() {
        for (_, encoding) in Encoding::NAMES {
            let mut encoder = Encoder::new(encoding).unwrap();
            let mut all = Vec::new();
            for _ in 0..3 {
                encoder.write(&[b'x'; 10_000]).unwrap();
                encoder.flush().unwrap();
                let piece = encoder.take();
                assert!(!piece.is_empty(), "{encoding:?}");
                all.extend(piece);
            }
            all.extend(encoder.finish().unwrap());
            assert_eq!(decode(encoding, &all), vec![b'x'; 30_000], "{encoding:?}");
        }
    }

    fn decode(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        use std::io::Read;
        let mut decoded = Vec::new();
        match encoding {
            Encoding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded),
            Encoding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded),
            Encoding::Zstd => {
                zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut decoded)
            }
        }
        .unwrap();
        decoded
    }
}
