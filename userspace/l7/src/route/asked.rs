//! What routes ask of a request.

use std::borrow::Cow;
use std::net::IpAddr;

use weir_model::SplitOn;

use crate::http1::request::RequestHead;

/// A request whose head was read, and who sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a RequestHead,
    pub(crate) head: &'a [u8],
    pub(crate) source: IpAddr,
    /// What was asked for in the TLS handshake, in lower case.
    pub(crate) server_name: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(crate) fn method(&self) -> &'a [u8] {
        self.request.method.get(self.head)
    }

    /// With its port; empty where there is none.
    pub(crate) fn host(&self) -> &'a [u8] {
        self.request.host.map_or(&b""[..], |host| host.get(self.head))
    }

    /// Without its query; never empty.
    pub(crate) fn path(&self) -> &'a [u8] {
        match self.request.path.get(self.head) {
            b"" => b"/",
            path => path,
        }
    }

    /// Behind the `?`; empty where there is none.
    pub(crate) fn query(&self) -> &'a [u8] {
        let target = self.request.target.get(self.head);
        let path = self.request.path.get(self.head).len();
        target.get(path + 1..).unwrap_or_default()
    }

    /// The values of every field of that name.
    pub(crate) fn header<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        let fields = self.request.fields.iter();
        let named = fields
            .filter(move |field| field.name.get(self.head).eq_ignore_ascii_case(name.as_bytes()));
        named.map(|field| field.value.get(self.head))
    }

    /// The values of every parameter of that name, decoded.
    pub(crate) fn parameter<'s>(
        &'s self,
        name: &'s str,
    ) -> impl Iterator<Item = Cow<'a, [u8]>> + 's {
        let pairs = self.query().split(|&byte| byte == b'&').map(|pair| split(pair, b'='));
        pairs
            .filter(move |(own, _)| *decode(own) == *name.as_bytes())
            .map(|(_, value)| decode(value))
    }

    /// The values of every cookie of that name.
    pub(crate) fn cookie<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        let pairs = self.header("cookie").flat_map(|field| field.split(|&byte| byte == b';'));
        pairs
            .map(|pair| split(pair.trim_ascii(), b'='))
            .filter(move |(own, _)| *own == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// A number that stays the same for the same client; `None` where chance is to decide.
    pub(crate) fn draw(&self, on: &SplitOn) -> Option<u64> {
        match on {
            SplitOn::Random => None,
            SplitOn::Source => Some(hash_address(self.source)),
            SplitOn::Header(name) => self.header(name).next().map(weir_balance::hash),
            SplitOn::Cookie(name) => self.cookie(name).next().map(weir_balance::hash),
        }
    }
}

/// The hash of a client's address.
pub(crate) fn hash_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => weir_balance::hash(&address.octets()),
        IpAddr::V6(address) => weir_balance::hash(&address.octets()),
    }
}

fn split(pair: &[u8], at: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(at, pair) {
        Some(place) => {
            (pair.get(..place).unwrap_or_default(), pair.get(place + 1..).unwrap_or_default())
        }
        None => (pair, b""),
    }
}

/// Percent signs and plus signs decoded; what is no escape stays as it is.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| b"%+".contains(byte)) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = || {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        rest = after;
        match first {
            b'+' => decoded.push(b' '),
            b'%' => match escaped() {
                Some(byte) => {
                    decoded.push(byte);
                    rest = after.get(2..).unwrap_or_default();
                }
                None => decoded.push(b'%'),
            },
            byte => decoded.push(byte),
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        for (text, expected) in
            [("a", "a"), ("a+b", "a b"), ("%41%4a", "AJ"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz")]
        {
            assert_eq!(*decode(text.as_bytes()), *expected.as_bytes(), "{text}");
        }
    }
}
