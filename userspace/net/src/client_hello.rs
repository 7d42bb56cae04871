//! Which server a TLS client asks for, read without taking part in the handshake (RFC 8446 section 4.1.2,
//! RFC 6066 section 3).

use std::fmt;

/// Bytes of a hello that are looked at, with the headers of its records.
pub const HELLO_SIZE_MAX: usize = 16 * 1024;

/// Bytes of a record's content (RFC 8446 section 5.1).
const RECORD_SIZE_MAX: usize = 16 * 1024;
/// Records that a hello may be spread over.
const RECORDS_MAX: usize = 64;
/// Bytes of a server's name (RFC 1035 section 2.3.4).
const NAME_SIZE_MAX: usize = 253;

const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_HOST: u8 = 0;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name in lower case, without a dot at its end; `None` where the client names none.
    pub server_name: Option<String>,
}

/// The connection does not begin with a hello that could be read in one way only; says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTls(&'static str);

impl fmt::Display for NotTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotTls {}

/// The hello at the start of `bytes`; `None` while it is not complete. What cannot become one is
/// refused as soon as that is clear.
///
/// # Errors
/// [`NotTls`]: the connection is closed, as nobody knows whose it is.
pub fn peek(bytes: &[u8]) -> Result<Option<ClientHello>, NotTls> {
    let seen = bytes.get(..HELLO_SIZE_MAX).unwrap_or(bytes);
    match handshake(seen)? {
        Some(hello) => read_hello(&hello).map(Some),
        None if bytes.len() >= HELLO_SIZE_MAX => Err(NotTls("the TLS hello is too long")),
        None => Ok(None),
    }
}

/// The content of the hello's handshake message, put together from its records.
fn handshake(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    let mut message = Vec::new();
    for _ in 0..RECORDS_MAX {
        let Some((content, rest)) = record(bytes)? else {
            return Ok(None);
        };
        message.extend_from_slice(content.bytes);
        if let [kind, high, middle, low, body @ ..] = message.as_slice() {
            if *kind != CLIENT_HELLO {
                return Err(NotTls("the first TLS message is no client hello"));
            }
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > HELLO_SIZE_MAX {
                return Err(NotTls("the TLS hello is too long"));
            }
            // What stands behind it in the same record would be a message without an answer. Whether
            // it has arrived already must not matter.
            if body.len() + content.missing > length {
                return Err(MALFORMED);
            }
            if body.len() == length {
                return Ok(Some(body.to_vec()));
            }
        } else if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NotTls("the first TLS message is no client hello"));
        }
        if content.missing > 0 {
            return Ok(None);
        }
        bytes = rest;
    }
    Err(NotTls("the TLS hello is spread over too many records"))
}

struct Content<'a> {
    bytes: &'a [u8],
    /// How many more the record has.
    missing: usize,
}

/// The content of the first record, as far as it has arrived, and what is behind it.
fn record(bytes: &[u8]) -> Result<Option<(Content<'_>, &[u8])>, NotTls> {
    const NO_TLS: NotTls = NotTls("the connection does not begin with TLS");
    if bytes.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE) {
        return Err(NO_TLS);
    }
    if bytes.get(1).is_some_and(|major| *major != 3) {
        return Err(NO_TLS);
    }
    let [_, _, _, high, low, rest @ ..] = bytes else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 || length > RECORD_SIZE_MAX {
        return Err(NotTls("a TLS record has a length that cannot be"));
    }
    match rest.split_at_checked(length) {
        Some((bytes, rest)) => Ok(Some((Content { bytes, missing: 0 }, rest))),
        None => Ok(Some((Content { bytes: rest, missing: length - rest.len() }, &[]))),
    }
}

const MALFORMED: NotTls = NotTls("the TLS hello is malformed");

fn read_hello(hello: &[u8]) -> Result<ClientHello, NotTls> {
    let mut hello = Reader(hello);
    // Version and random, session, cipher suites, compression methods.
    hello.take(2 + 32)?;
    hello.vector8()?;
    hello.vector16()?;
    hello.vector8()?;
    let mut found = ClientHello::default();
    if hello.is_empty() {
        return Ok(found);
    }
    let mut extensions = Reader(hello.vector16()?);
    hello.end()?;
    let mut names = None;
    while !extensions.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.vector16()?;
        if kind == EXTENSION_SERVER_NAME && names.replace(content).is_some() {
            return Err(NotTls("the TLS hello has an extension twice"));
        }
    }
    found.server_name = names.map(server_name).transpose()?;
    Ok(found)
}

fn server_name(content: &[u8]) -> Result<String, NotTls> {
    let mut content = Reader(content);
    let mut names = Reader(content.vector16()?);
    content.end()?;
    // No other kind of name was ever defined, and more than one is forbidden.
    if names.take(1)? != [NAME_HOST] {
        return Err(NotTls("the TLS hello names its server by something else than a host name"));
    }
    let name = names.vector16()?;
    if !names.is_empty() {
        return Err(NotTls("the TLS hello names more than one server"));
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    if !is_host_name(name) {
        return Err(NotTls("the TLS hello names a server by what is no host name"));
    }
    Ok(name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

fn is_host_name(name: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        (1..=63).contains(&label.len()) && label.iter().all(allowed)
    };
    name.len() <= NAME_SIZE_MAX && name.split(|&byte| byte == b'.').all(is_label)
}

/// Reads from the front of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), NotTls> {
        if self.0.is_empty() { Ok(()) } else { Err(MALFORMED) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], NotTls> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, NotTls> {
        let (number, rest) = self.0.split_first_chunk::<2>().ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*number))
    }

    /// What a length of one byte says.
    fn vector8(&mut self) -> Result<&'a [u8], NotTls> {
        let (length, rest) = self.0.split_first().ok_or(MALFORMED)?;
        self.0 = rest;
        self.take(usize::from(*length))
    }

    /// What a length of two bytes says.
    fn vector16(&mut self) -> Result<&'a [u8], NotTls> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
#[path = "client_hello/tests.rs"]
mod tests;
