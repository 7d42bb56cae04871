//! Single values: durations, sizes, addresses, names.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::key::unknown;

/// The longest duration that may be configured.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Threads that may be asked for.
const REACTORS_MAX: usize = 1024;
/// Characters of a name.
const NAME_SIZE_MAX: usize = 64;

/// A value cannot be read; says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError(String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

/// Reads a duration: a whole number with `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// It is none, or 0.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let refused = || ValueError(format!("`{text}` is no duration like 250ms, 10s, 5m or 1h"));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(refused)?;
    let number: u64 = number.parse().map_err(|_| refused())?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refused()),
    };
    match number.checked_mul(milliseconds) {
        Some(0) => Err(ValueError("must be more than 0".to_owned())),
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        None => Err(refused()),
    }
}

/// A duration of at most a day.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let duration = duration(text).map_err(|error| error.to_string())?;
    if duration > DURATION_MAX { Err("must be at most 24h".to_owned()) } else { Ok(duration) }
}

/// Bytes: a whole number with `B`, `KiB`, `MiB` or `GiB`, or without a unit.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let refused = || format!("`{text}` is no size like 512B, 64KiB or 10MiB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(refused)?;
    let number: u64 = number.parse().map_err(|_| refused())?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(refused()),
    };
    number.checked_mul(1 << shift).ok_or_else(refused)
}

/// A whole number of the range.
pub(crate) fn number(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let (least, most) = (*range.start(), *range.end());
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && range.contains(number));
    number.ok_or_else(|| format!("`{text}` is no whole number from {least} to {most}"))
}

/// A share of up to two decimals, in hundredths of a percent.
pub(crate) fn basis_points(text: &str) -> Result<u16, String> {
    let refused = || format!("`{text}` is no share from 0.01% to 100%");
    let number = text.strip_suffix('%').ok_or_else(refused)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || whole.len() > 3 || decimals.len() > 2 {
        return Err(refused());
    }
    let points = format!("{whole}{decimals:0<2}").parse().map_err(|_| refused())?;
    if (1..=10_000).contains(&points) { Ok(points) } else { Err(refused()) }
}

/// A whole number of 16 bits.
pub(crate) fn short(text: &str) -> Result<u16, String> {
    let number = number(text, 0..=u64::from(u16::MAX))?;
    u16::try_from(number).map_err(|_| "out of range".to_owned())
}

/// A whole number from 1 on.
pub(crate) fn count(text: &str, most: u32) -> Result<u32, String> {
    let number = number(text, 1..=u64::from(most))?;
    u32::try_from(number).map_err(|_| "out of range".to_owned())
}

/// A whole number of the range with a `%`.
pub(crate) fn percent(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let (least, most) = (*range.start(), *range.end());
    let number = text.strip_suffix('%').and_then(|number| {
        let number = self::number(number, u64::from(least)..=u64::from(most)).ok()?;
        u32::try_from(number).ok()
    });
    number.ok_or_else(|| format!("`{text}` is no percentage from {least}% to {most}%"))
}

/// `true` or `false`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    word(text, &[("true", true), ("false", false)])
}

pub(crate) fn reactors(text: &str) -> Result<NonZeroUsize, String> {
    let number = number(text, 1..=REACTORS_MAX as u64)?;
    usize::try_from(number).ok().and_then(NonZeroUsize::new).ok_or_else(|| "too many".to_owned())
}

/// An address with a port.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        if port.parse::<u16>().is_err() {
            format!("`{text}` has no port from 0 to 65535; write ADDRESS:PORT like 127.0.0.1:8000 or [::1]:8000")
        } else {
            format!("`{host}` is no IP address; names are not resolved, write 127.0.0.1:8000 or [::1]:8000")
        }
    })
}

/// What an object goes by.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=NAME_SIZE_MAX).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no name: 1 to {NAME_SIZE_MAX} letters, digits, `.`, `_` or `-`"))
    }
}

/// One of the words that have a meaning.
pub(crate) fn word<T: Clone>(text: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, meaning)) => Ok(meaning.clone()),
        None => Err(unknown(&format!("word `{text}`"), text, words.iter().map(|(word, _)| *word))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("250ms", Some(250)),
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("2d", Some(172_800_000)),
            ("0s", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999h", None),
        ] {
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn shares() {
        for (text, points) in [
            ("100%", Some(10_000)),
            ("10%", Some(1_000)),
            ("0.5%", Some(50)),
            ("0.01%", Some(1)),
            ("0%", None),
            ("100.01%", None),
            ("1.005%", None),
            ("10", None),
            (".5%", None),
        ] {
            assert_eq!(basis_points(text).ok(), points, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", Some(512)),
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("10MiB", Some(10_485_760)),
            ("64kb", None),
            ("-1", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }
}
