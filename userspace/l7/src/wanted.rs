//! What of a request decides on its backend.

use weir_balance::Backend;
use weir_model::HashOn;

use crate::attempts::Wanted;
use crate::route::{Asked, hash_address};
use crate::snapshot::Service;

/// What the upstream of that service asks of a request.
pub(crate) fn of(service: &Service, asked: &Asked<'_>) -> Wanted {
    let policy = service.upstream.policy();
    let hash = match &policy.hash_on {
        _ if !policy.algorithm.hashes() => None,
        HashOn::Source => Some(hash_address(asked.source)),
        HashOn::Path => Some(weir_balance::hash(asked.path())),
        HashOn::Header(name) => asked.header(name).next().map(weir_balance::hash),
        HashOn::Cookie(name) => asked.cookie(name).next().map(weir_balance::hash),
        HashOn::Query(name) => asked.parameter(name).next().map(|value| weir_balance::hash(&value)),
    };
    let token = |value: &[u8]| u64::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok();
    let sticky = policy.sticky.as_ref();
    let sticky = sticky.and_then(|sticky| asked.cookie(&sticky.cookie).find_map(token));
    Wanted { hash, sticky }
}

/// The cookie that brings the client back to that backend, unless it has it already.
pub(crate) fn cookie(service: &Service, wanted: Wanted, backend: &Backend) -> Option<String> {
    let sticky = service.upstream.policy().sticky.as_ref()?;
    let token = backend.token();
    if wanted.sticky == Some(token) {
        return None;
    }
    let same_site = sticky.same_site.name();
    let mut cookie =
        format!("{}={token:016x}; Path={}; SameSite={same_site}", sticky.cookie, sticky.path);
    if let Some(ttl) = sticky.ttl {
        cookie += &format!("; Max-Age={}", ttl.as_secs());
    }
    if sticky.secure {
        cookie += "; Secure";
    }
    if sticky.http_only {
        cookie += "; HttpOnly";
    }
    Some(cookie)
}
