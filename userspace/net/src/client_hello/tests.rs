//! Hellos as they may come, and what is made of them.

use super::*;

/// What `openssl s_client -servername Www.Example.Org -alpn h2,http/1.1` of OpenSSL 3.0 sends.
const OPENSSL: &str = include_str!("openssl.hex");

fn openssl() -> Vec<u8> {
    let digits: Vec<u8> = OPENSSL.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn vector16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector16(content)].concat()
}

fn sni(names: &[&[u8]]) -> Vec<u8> {
    let names = names.iter().flat_map(|name| [&[0][..], &vector16(name)].concat());
    extension(0, &vector16(&names.collect::<Vec<_>>()))
}

/// A handshake message with these extensions.
fn message(extensions: &[u8]) -> Vec<u8> {
    let session = [&[32][..], &[7; 32]].concat();
    // GREASE first, as browsers send it (RFC 8701).
    let ciphers = vector16(&[0x0a, 0x0a, 0x13, 0x01]);
    let body = [&[3, 3][..], &[9; 32], &session, &ciphers, &[1, 0], &vector16(extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

/// Records of at most `size` bytes around a message.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|piece| [&[22, 3, 1][..], &vector16(piece)].concat()).collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(&extensions.concat()), 16 * 1024)
}

fn asks(name: Option<&str>) -> ClientHello {
    ClientHello { server_name: name.map(ToOwned::to_owned) }
}

fn check(bytes: &[u8], expected: &ClientHello) {
    assert_eq!(peek(bytes), Ok(Some(expected.clone())));
    for cut in 0..bytes.len() {
        assert_eq!(peek(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    let more = [bytes, b"\x14\x03\x03\0\x01\x01"].concat();
    assert_eq!(peek(&more), Ok(Some(expected.clone())), "and more");
}

#[test]
fn a_real_hello() {
    check(&openssl(), &asks(Some("www.example.org")));
}

#[test]
fn a_real_hello_with_any_byte_changed_or_cut_does_no_harm() {
    let real = openssl();
    for place in 0..real.len() {
        for bit in 0..8 {
            let mut bytes = real.clone();
            bytes[place] ^= 1 << bit;
            // No panic, and what was refused stays refused.
            let mut refused = false;
            for cut in (place..=bytes.len()).step_by(7) {
                let now = peek(&bytes[..cut]).is_err();
                assert!(now || !refused, "byte {place} bit {bit} cut at {cut}");
                refused = now;
            }
        }
    }
}

#[test]
fn names_and_protocols() {
    let long = [&[b'a'; 63][..], b"."].concat().repeat(4);
    let grease = extension(0x1a1a, b"");
    let padding = extension(21, &[0; 300]);
    for (extensions, expected) in [
        (vec![], asks(None)),
        (vec![grease.clone(), padding.clone()], asks(None)),
        (vec![grease, sni(&[b"a.example"]), padding], asks(Some("a.example"))),
        (vec![sni(&[b"A.Example."])], asks(Some("a.example"))),
        (vec![sni(&[b"xn--bcher-kva.example"])], asks(Some("xn--bcher-kva.example"))),
        (vec![sni(&[b"_x.example"])], asks(Some("_x.example"))),
    ] {
        let bytes = hello(&extensions);
        check(&bytes, &expected);
        for size in [1, 3, 100] {
            let message = message(&extensions.concat());
            if message.len() / size < RECORDS_MAX {
                check(&records(&message, size), &expected);
            }
        }
    }
    assert!(peek(&hello(&[sni(&[&long[..long.len() - 1]])])).is_err(), "255 bytes of name");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for extensions in [
        vec![sni(&[b"a.example", b"b.example"])],
        vec![sni(&[b"a.example"]), sni(&[b"a.example"])],
        vec![sni(&[])],
        vec![sni(&[b""])],
        vec![sni(&[b"."])],
        vec![sni(&[b"a..b"])],
        vec![sni(&[b"a.example.."])],
        vec![sni(&[b"a.example\0.b"])],
        vec![sni(&[b"a b"])],
        vec![sni(&[b"*.example"])],
        vec![sni(&[b"a.example:443"])],
        vec![sni(&["bücher.example".as_bytes()])],
        vec![sni(&[&[b'a'; 64]])],
        vec![extension(0, b"")],
        vec![extension(0, &vector16(&[1, 0, 1, b'a']))],
        vec![extension(0, &[sni(&[b"a"])[4..].to_vec(), vec![0]].concat())],
        vec![vec![0]],
        vec![vec![0, 0, 0, 9]],
    ] {
        let bytes = hello(&extensions);
        assert!(peek(&bytes).is_err(), "{:?}: {:?}", extensions, peek(&bytes));
    }
}

#[test]
fn what_is_no_hello_is_refused_at_once() {
    let mut two_messages = message(&[]);
    two_messages.push(1);
    let mut short = message(&[]);
    short[3] -= 1;
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0x80],
        vec![21, 3, 1],
        vec![22, 2],
        vec![22, 3, 1, 0, 0],
        vec![22, 3, 1, 0xff, 0xff],
        vec![22, 3, 1, 0, 1, 2],
        vec![22, 3, 1, 0, 4, 1, 1, 0, 0],
        records(&two_messages, 16 * 1024),
        records(&short, 16 * 1024),
        [&records(&message(&[])[..20], 20)[..], &[23, 3, 3]].concat(),
        records(&message(&extension(21, &[0; 600])), 1),
    ] {
        assert!(peek(&bytes).is_err(), "{bytes:?}");
    }
    assert_eq!(peek(b""), Ok(None));
}

#[test]
fn a_record_that_goes_on_behind_the_hello_is_refused_before_it_has_arrived() {
    let mut two_messages = message(&[]);
    let length = two_messages.len();
    two_messages.extend([1; 40]);
    let bytes = records(&two_messages, RECORD_SIZE_MAX);
    for cut in 0..=bytes.len() {
        // The record's header and the message's: 5 and 4 bytes.
        assert_eq!(peek(&bytes[..cut]).is_err(), cut >= 9, "cut at {cut} of {length}");
    }
}

#[test]
fn a_hello_has_a_bound() {
    let padding = |size: usize| message(&extension(21, &vec![0; size]));
    let fixed = 5 + padding(0).len();
    check(&records(&padding(HELLO_SIZE_MAX - fixed), RECORD_SIZE_MAX), &asks(None));
    let long = records(&padding(HELLO_SIZE_MAX - fixed + 1), RECORD_SIZE_MAX);
    assert!(peek(&long).is_err());
    assert!(peek(&long[..HELLO_SIZE_MAX]).is_err());
    assert_eq!(peek(&long[..HELLO_SIZE_MAX - 1]), Ok(None));
}
