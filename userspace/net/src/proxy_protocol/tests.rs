//! Headers as they may come, and what is made of them.

use super::*;

fn addresses(source: &str, destination: &str) -> Header {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Header { addresses: Some(Addresses { source, destination }) }
}

const NOBODY: Header = Header { addresses: None };

/// A header of version 2, with what is behind its fixed part.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&V2_START[..], &[command, family], &length, content].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}

/// Every start of `bytes` must be incomplete, and what is behind the header must not matter.
fn check(bytes: &[u8], expected: Result<Header, ProxyError>) {
    let text = bytes.escape_ascii();
    match expected {
        Ok(header) => {
            assert_eq!(parse(bytes), Ok(Some((header, bytes.len()))), "{text}");
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{text} cut at {cut}");
            }
            let more = [bytes, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&more), Ok(Some((header, bytes.len()))), "{text} and more");
        }
        Err(error) => {
            assert_eq!(parse(bytes), Err(error), "{text}");
            // Once refused, more bytes make it no better; before, it may only have been incomplete.
            let mut refused = false;
            for cut in 0..=bytes.len() {
                match parse(&bytes[..cut]) {
                    Ok(None) => assert!(!refused, "{text} cut at {cut}"),
                    Ok(Some(found)) => panic!("{text} cut at {cut}: {found:?}"),
                    Err(_) => refused = true,
                }
            }
        }
    }
}

#[test]
fn lines() {
    let v6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    for (line, expected) in [
        // The specification's own examples: the longest lines.
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_owned(),
            Ok(addresses("255.255.255.255:65535", "255.255.255.255:65535")),
        ),
        (
            format!("PROXY TCP6 {v6} {v6} 65535 65535\r\n"),
            Ok(addresses(&format!("[{v6}]:65535"), &format!("[{v6}]:65535"))),
        ),
        ("PROXY UNKNOWN\r\n".to_owned(), Ok(NOBODY)),
        (format!("PROXY UNKNOWN {v6} {v6} 65535 65535\r\n"), Ok(NOBODY)),
        (
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n".to_owned(),
            Ok(addresses("192.168.0.1:56324", "192.168.0.11:443")),
        ),
        (
            "PROXY TCP6 ::1 2001:db8::2 0 1\r\n".to_owned(),
            Ok(addresses("[::1]:0", "[2001:db8::2]:1")),
        ),
        ("PROXY UNKNOWNX\r\n".to_owned(), Err(ProxyError::Line)),
        ("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n".to_owned(), Err(ProxyError::Line)),
        ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_owned(), Err(ProxyError::Line)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n".to_owned(), Err(ProxyError::Line)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n".to_owned(), Err(ProxyError::Line)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n".to_owned(), Err(ProxyError::Line)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n".to_owned(), Err(ProxyError::Line)),
        ("PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n".to_owned(), Err(ProxyError::Line)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP4 ::1 ::2 1 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP6 fe80::1%1 ::2 1 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n".to_owned(), Err(ProxyError::Address)),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n".to_owned(), Err(ProxyError::Address)),
        (format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)), Err(ProxyError::Line)),
        (format!("PROXY UNKNOWN {}", "x".repeat(200)), Err(ProxyError::Line)),
    ] {
        check(line.as_bytes(), expected);
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(longest.len(), V1_SIZE_MAX);
    check(longest.as_bytes(), Ok(NOBODY));
}

#[test]
fn binary_headers() {
    let v6: Vec<u8> = (0..36).collect();
    let v6_addresses = addresses(
        "[1:203:405:607:809:a0b:c0d:e0f]:8225",
        "[1011:1213:1415:1617:1819:1a1b:1c1d:1e1f]:8739",
    );
    let with = |fields: &[u8]| [&V4[..], fields].concat();
    let v4_addresses = addresses("192.0.2.1:56324", "198.51.100.7:443");
    for (bytes, expected) in [
        (v2(0x21, 0x11, &V4), Ok(v4_addresses)),
        (v2(0x21, 0x21, &v6), Ok(v6_addresses)),
        (v2(0x21, 0x11, &with(&field(0x04, b"padding"))), Ok(v4_addresses)),
        (v2(0x21, 0x11, &with(&[field(1, b"h2"), field(0x20, b"")].concat())), Ok(v4_addresses)),
        // Nothing that a TCP connection could have: the connection's own addresses hold.
        (v2(0x21, 0x12, &V4), Ok(NOBODY)),
        (v2(0x21, 0x22, &v6), Ok(NOBODY)),
        (v2(0x21, 0x31, &[b'/'; 216]), Ok(NOBODY)),
        (v2(0x21, 0x32, &[b'/'; 216]), Ok(NOBODY)),
        (v2(0x21, 0x00, b""), Ok(NOBODY)),
        (v2(0x21, 0x00, b"whatever"), Ok(NOBODY)),
        (v2(0x20, 0x00, b""), Ok(NOBODY)),
        (v2(0x20, 0x11, &V4), Ok(NOBODY)),
        (v2(0x20, 0xff, b"to be ignored"), Ok(NOBODY)),
        (v2(0x21, 0x11, &[0; 11]), Err(ProxyError::Length)),
        (v2(0x21, 0x21, &[0; 35]), Err(ProxyError::Length)),
        (v2(0x21, 0x31, &[0; 215]), Err(ProxyError::Length)),
        (v2(0x21, 0x11, &[0; V2_LENGTH_MAX + 1]), Err(ProxyError::Length)),
        (v2(0x11, 0x11, &V4), Err(ProxyError::Version)),
        (v2(0x31, 0x11, &V4), Err(ProxyError::Version)),
        (v2(0x22, 0x11, &V4), Err(ProxyError::Command)),
        (v2(0x21, 0x10, &V4), Err(ProxyError::Family)),
        (v2(0x21, 0x01, &V4), Err(ProxyError::Family)),
        (v2(0x21, 0x13, &V4), Err(ProxyError::Family)),
        (v2(0x21, 0x41, &V4), Err(ProxyError::Family)),
        (v2(0x21, 0x11, &with(&[4])), Err(ProxyError::Field)),
        (v2(0x21, 0x11, &with(&[4, 0])), Err(ProxyError::Field)),
        (v2(0x21, 0x11, &with(&[4, 0, 1])), Err(ProxyError::Field)),
        (v2(0x21, 0x11, &with(&[4, 0xff, 0xff, 0])), Err(ProxyError::Field)),
    ] {
        check(&bytes, expected);
    }
}

#[test]
fn a_checksum_must_be_right() {
    let with = |fields: &[u8]| v2(0x21, 0x11, &[&V4[..], fields].concat());
    let mut header = with(&[field(TYPE_CRC32C, &[0; 4]), field(4, b"xy")].concat());
    let right = crc32c(&[&header]).to_be_bytes();
    let place = V2_FIXED + V2_TCP4 + 3;
    check(&header, Err(ProxyError::Checksum));
    header[place..place + 4].copy_from_slice(&right);
    check(&header, Ok(addresses("192.0.2.1:56324", "198.51.100.7:443")));
    let last = header.len() - 1;
    header[last] ^= 1;
    check(&header, Err(ProxyError::Checksum));
    check(&with(&field(TYPE_CRC32C, &[0; 3])), Err(ProxyError::Checksum));
    let twice = [field(TYPE_CRC32C, &[0; 4]), field(TYPE_CRC32C, &[0; 4])].concat();
    check(&with(&twice), Err(ProxyError::Checksum));
}

#[test]
fn what_is_no_header_is_refused_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"P",
        b"PR",
        b"PROXX",
        b"PROXY\t",
        b"proxy tcp4",
        b"\r\n\r\n\0\r\nQUIX",
        b"\r\n\r\n\r",
        b"\x16\x03\x01",
        b"\0",
        b" PROXY",
    ] {
        let refused = parse(bytes);
        let may_still_be = V1_START.starts_with(bytes) || V2_START.starts_with(bytes);
        assert_eq!(refused, if may_still_be { Ok(None) } else { Err(ProxyError::NotProxy) });
    }
    assert_eq!(parse(b""), Ok(None));
}

#[test]
fn what_is_written_is_read_back() {
    for (source, destination, v1, normal) in [
        (
            "192.0.2.1:1",
            "192.0.2.2:65535",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
            ("192.0.2.1:1", "192.0.2.2:65535"),
        ),
        (
            "[2001:db8::1]:1",
            "[::2]:2",
            "PROXY TCP6 2001:db8::1 ::2 1 2\r\n",
            ("[2001:db8::1]:1", "[::2]:2"),
        ),
        // A socket of both families has mapped addresses.
        (
            "[::ffff:192.0.2.1]:1",
            "[::ffff:192.0.2.2]:2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            ("192.0.2.1:1", "192.0.2.2:2"),
        ),
        (
            "192.0.2.1:1",
            "[2001:db8::2]:2",
            "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n",
            ("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2"),
        ),
        // The scope of a link-local address means something on one host only.
        (
            "[fe80::1%3]:1",
            "[fe80::2%3]:2",
            "PROXY TCP6 fe80::1 fe80::2 1 2\r\n",
            ("[fe80::1]:1", "[fe80::2]:2"),
        ),
    ] {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let mut out = Vec::new();
        append_v1(source, destination, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), v1);
        check(&out, Ok(addresses(normal.0, normal.1)));
        out.clear();
        append_v2(source, destination, &mut out);
        check(&out, Ok(addresses(normal.0, normal.1)));
    }
}
