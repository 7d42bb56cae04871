//! Hosts and paths as routes are matched against them.

use std::borrow::Cow;

/// The host without port and trailing dot, in lower case; borrowed where it already is.
pub(super) fn host_name(host: &[u8]) -> Option<Cow<'_, str>> {
    let host = std::str::from_utf8(host).ok()?;
    let name = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon)?,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(name.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(name))
}

/// The path as a backend is likely to understand it: escapes of characters that need none decoded,
/// slashes in a row taken for one, `.` and `..` resolved; `None` where `..` leads above the root. Routes are matched against this,
/// or `/public/%2e%2e/admin` would go where `/public` goes; what is forwarded stays as it was sent.
pub(crate) fn normal_path(path: &str) -> Option<Cow<'_, str>> {
    let is_detour = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.'] | [_, b'%']);
    if !path.as_bytes().windows(2).any(is_detour) {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path);
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = decoded.strip_prefix('/').unwrap_or(&decoded).split('/').peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop()?;
                }
                if last {
                    segments.push("");
                }
            }
            "" if !last => {}
            _ => segments.push(segment),
        }
    }
    Some(Cow::Owned(format!("/{}", segments.join("/"))))
}

fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(percent) = rest.find('%') {
        let (before, escape) = rest.split_at_checked(percent).unwrap_or((rest, ""));
        decoded.push_str(before);
        let byte = escape.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
                rest = escape.get(3..).unwrap_or("");
            }
            _ => {
                decoded.push('%');
                rest = escape.get(1..).unwrap_or("");
            }
        }
    }
    decoded.push_str(rest);
    decoded
}
