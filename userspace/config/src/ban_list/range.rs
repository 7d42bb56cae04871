//! `a-b`: the prefixes that make up a range.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_model::Cidr;

pub(super) fn read(first: &str, last: &str, tell: &mut dyn FnMut(Cidr)) -> Result<(), String> {
    let (Ok(first), Ok(last)) = (first.parse::<IpAddr>(), last.parse::<IpAddr>()) else {
        return Err("not a range of two addresses".to_owned());
    };
    match (first.to_canonical(), last.to_canonical()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let ip = |bits: u128| Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX)).into();
            split(u32::from(first).into(), u32::from(last).into(), 32, ip, tell)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            split(first.into(), last.into(), 128, |bits| Ipv6Addr::from(bits).into(), tell)
        }
        _ => Err("the range begins in one family and ends in the other".to_owned()),
    }
}

/// From the first address on, the widest prefix that begins there and does not pass the last.
fn split(
    mut first: u128,
    last: u128,
    bits: u32,
    ip: impl Fn(u128) -> IpAddr,
    tell: &mut dyn FnMut(Cidr),
) -> Result<(), String> {
    if first > last {
        return Err("the range ends before it begins".to_owned());
    }
    loop {
        let aligned = first.trailing_zeros().min(bits);
        let fits = |host_bits: &u32| match 1u128.checked_shl(*host_bits) {
            Some(size) => size - 1 <= last - first,
            None => last - first == u128::MAX,
        };
        let host_bits = (0..=aligned).rev().find(fits).unwrap_or(0);
        let length = u8::try_from(bits - host_bits).unwrap_or(0);
        if let Some(cidr) = Cidr::new(ip(first), length) {
            tell(cidr);
        }
        let end = 1u128.checked_shl(host_bits).and_then(|size| first.checked_add(size));
        match end.filter(|&end| end <= last) {
            Some(next) => first = next,
            None => return Ok(()),
        }
    }
}
