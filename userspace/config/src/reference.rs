//! The reference page of the configuration, from the same keys that the parser knows.

use std::fmt::Write;

use crate::key::Key;
use crate::{
    actions, affinity, conditions, health, kernel, listeners, process, routes, services, tls,
    upstreams, vips,
};

/// Every section: where its keys stand, and which they are.
const SECTIONS: &[(&str, &[Key])] = &[
    ("weir.yaml", crate::KEYS),
    ("kernel", kernel::KEYS),
    ("kernel.bans", kernel::BANS),
    ("kernel.bans.files[]", kernel::FILE),
    ("kernel.guard", crate::guard::KEYS),
    ("kernel.guard.ban", crate::guard::BAN),
    ("kernel.tunnel", kernel::TUNNEL),
    ("vips[]", vips::KEYS),
    ("listeners[]", listeners::KEYS),
    ("listeners[].tls", tls::SERVER),
    ("listeners[].tls.certificates[]", tls::CERTIFICATE),
    ("listeners[].limits", listeners::LIMITS),
    ("listeners[].timeouts", listeners::TIMEOUTS),
    ("routes[]", routes::ROUTES),
    ("routes[].share", conditions::SHARE),
    ("routes[].split[]", actions::SPLIT),
    ("routes[].redirect", actions::REDIRECT),
    ("routes[].respond", actions::RESPOND),
    ("routes[].rewrite", actions::REWRITE),
    ("routes[].request-headers", actions::EDITS),
    ("routes[].response-headers", actions::EDITS),
    ("routes[].mirror", actions::MIRROR),
    ("routes[].compress", actions::COMPRESS),
    ("services[]", services::SERVICES),
    ("services[].tls", tls::CLIENT),
    ("services[].tls.certificate", tls::CERTIFICATE),
    ("services[].timeouts", services::TIMEOUTS),
    ("services[].retries", services::RETRIES),
    ("upstreams[]", upstreams::KEYS),
    ("upstreams[].targets[]", upstreams::TARGET),
    ("upstreams[].hash-on", affinity::HASH_ON),
    ("upstreams[].health", health::KEYS),
    ("upstreams[].health.active", health::ACTIVE),
    ("upstreams[].health.passive", health::PASSIVE),
    ("upstreams[].limits", upstreams::LIMITS),
    ("upstreams[].sticky", affinity::STICKY),
    ("admin", process::ADMIN),
    ("status", process::STATUS),
];

/// The reference in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# weir.yaml\n\n\
         Generated from the parser's own keys by `cargo run -p weir-config --example reference`.\n\n\
         Unknown keys are errors. Durations are `250ms`, `10s`, `5m`, `1h`, `1d`; sizes `512B`, \
         `64KiB`, `10MiB`, `1GiB`. In values `${NAME}` is an environment variable, `${file:/path}` \
         the contents of a file, and `$${` stands for `${`.\n",
    );
    for (section, keys) in SECTIONS {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {section}\n\n| key | meaning | default | example |\n|---|---|---|---|\n"
        );
        for key in *keys {
            let code =
                |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                key.name,
                key.summary,
                key.default,
                code(key.example)
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_page_is_fresh() {
        let committed = include_str!("../../../docs/configuration.md");
        assert_eq!(
            committed,
            super::reference(),
            "run `cargo run -p weir-config --example reference > docs/configuration.md`"
        );
    }
}
