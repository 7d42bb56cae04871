//! What must hold of the parsers of `net` and `config` whatever they are given; shared by the fuzz
//! targets and `tests/it/fuzzing.rs`. Each function panics where it does not hold.

use std::net::{IpAddr, SocketAddr};

use weir_config::Environment;
use weir_net::client_hello;
use weir_net::proxy_protocol::{self, append_v1, append_v2};

/// Bytes up to which every start of an input is looked at.
const STARTS_MAX: usize = 600;

/// Lengths of starts of `bytes` that are worth a look.
fn starts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let step = if bytes.len() <= STARTS_MAX { 1 } else { bytes.len() / 50 };
    (0..bytes.len()).step_by(step)
}

/// A header needs all its bytes and no more, and what it says can be said again.
pub(crate) fn proxy_protocol(bytes: &[u8]) {
    let read = proxy_protocol::parse(bytes);
    let needed = match read {
        Ok(Some((_, length))) => length,
        Ok(None) => bytes.len(),
        Err(_) => 0,
    };
    assert!(needed <= bytes.len());
    for start in starts(&bytes[..needed]) {
        assert_eq!(proxy_protocol::parse(&bytes[..start]), Ok(None), "cut at {start}");
    }
    let Ok(Some((header, length))) = read else { return };
    assert_eq!(proxy_protocol::parse(&bytes[..length]), read);
    let Some(addresses) = header.addresses else { return };
    assert_eq!(addresses.source.is_ipv4(), addresses.destination.is_ipv4());
    for append in [append_v1, append_v2] {
        let mut out = Vec::new();
        append(addresses.source, addresses.destination, &mut out);
        let again = proxy_protocol::parse(&out).expect("a header").expect("a whole header");
        assert_eq!(again.1, out.len());
        let again = again.0.addresses.expect("addresses");
        assert_eq!(plain(again.source), plain(addresses.source));
        assert_eq!(plain(again.destination), plain(addresses.destination));
    }
}

fn plain(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// A hello that is read was not read before its last byte, and a start of it was never refused.
pub(crate) fn client_hello(bytes: &[u8]) {
    let read = client_hello::peek(bytes);
    let mut found = None;
    for start in starts(bytes) {
        let now = client_hello::peek(&bytes[..start]);
        match (&found, &now) {
            (None, Ok(None)) => {}
            (None, _) => found = Some(now),
            (Some(before), _) => assert_eq!(now, *before, "more bytes change nothing"),
        }
    }
    if let Some(found) = found {
        assert_eq!(read, found, "more bytes change nothing");
    }
    let Ok(Some(hello)) = read else { return };
    if let Some(name) = hello.server_name {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        assert!(name.bytes().all(|byte| plain(byte) || b"-_.".contains(&byte)), "{name:?}");
        assert!(!name.is_empty() && !name.starts_with('.') && !name.ends_with('.'), "{name:?}");
    }
}

/// A text is read, or refused at places inside it.
pub(crate) fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Err(mistakes) = weir_config::parse(&text, &Nothing) else { return };
    assert!(!mistakes.is_empty());
    for mistake in mistakes.iter() {
        assert!(mistake.line >= 1 && mistake.column >= 1, "{mistake} in {text:?}");
        assert!(mistake.line <= text.split(['\r', '\n']).count() + 1, "{mistake} in {text:?}");
    }
}

/// An environment without variables and files.
struct Nothing;

impl Environment for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &str) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}
