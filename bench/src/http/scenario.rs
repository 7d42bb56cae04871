//! Scenarios: one question a file.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::files::files;
use crate::http::measure::Measure;

/// What is asked of every target.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Scenario {
    /// The file's name.
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) question: String,
    /// What the figures do not say.
    pub(crate) misleads: String,
    /// What the client speaks to the proxy.
    #[serde(default)]
    pub(crate) speaks: Speaks,
    #[serde(default)]
    pub(crate) origin: Origin,
    /// Words that configurations of targets ask for, besides those of `speaks`.
    #[serde(default)]
    pub(crate) traits: Vec<String>,
    #[serde(default = "path_default")]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) method: Method,
    /// Bytes of the origin's answer.
    pub(crate) body_size: usize,
    /// What the load counts.
    #[serde(default = "counts_default")]
    pub(crate) counts: String,
    pub(crate) load: Load,
    /// Whether latencies are measured too.
    #[serde(default)]
    pub(crate) latency: bool,
    /// Whether the CPU of the whole machine is told too.
    #[serde(default)]
    pub(crate) system: bool,
    #[serde(default)]
    pub(crate) goals: Vec<Goal>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Speaks {
    #[default]
    Http,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3.
    Http2,
    Tcp,
}

/// What answers behind the proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// nginx with one file.
    #[default]
    File,
    /// The same with 25 more header fields.
    Headers,
    /// Our own: answers in eight chunks.
    Chunked,
    /// Our own: sends back what comes.
    Echo,
    /// Our own: sends as many bytes as it is asked for.
    Stream,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Method {
    #[default]
    Get,
    Post,
}

/// What makes the load.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "tool", deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Load {
    Wrk {
        connections: u32,
        /// A file of `scripts/`.
        script: Option<String>,
        /// A connection a request.
        #[serde(default)]
        close: bool,
    },
    H2load {
        connections: u32,
        /// Requests under way on a connection.
        #[serde(default = "streams_default")]
        streams: u32,
    },
    /// A TLS connection a request; full handshakes, or resumed ones.
    Handshakes { connections: u32, resumed: bool },
    /// Messages through a TCP listener, each answered before the next.
    Messages { connections: u32, size: usize },
    /// Connections that have had one answer and are kept.
    Idle { connections: u32 },
}

/// What a figure of ours is to be: beside another target's, or by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Goal {
    /// Without it, what the scenario asks first.
    pub(crate) measure: Option<Measure>,
    /// A target, or `best`: the best of the peers. Without it the figure itself is meant.
    pub(crate) than: Option<String>,
    pub(crate) at_least: Option<f64>,
    pub(crate) at_most: Option<f64>,
}

fn path_default() -> String {
    "/answer".to_owned()
}

fn counts_default() -> String {
    "requests".to_owned()
}

fn streams_default() -> u32 {
    1
}

/// Every scenario, by name.
pub(crate) fn all() -> Result<Vec<Scenario>> {
    let read = |(name, text): (String, String)| {
        let scenario: Scenario =
            toml::from_str(&text).with_context(|| format!("read the scenario {name}"))?;
        for Goal { at_least, at_most, .. } in &scenario.goals {
            let is_one = at_least.is_some() != at_most.is_some();
            ensure!(is_one, "a goal of scenario {name} needs `at-least` or `at-most`, one of them");
        }
        Ok(Scenario { name, ..scenario })
    };
    files("scenarios")?.into_iter().map(read).collect()
}

impl Scenario {
    /// What is asked first.
    pub(crate) fn asks(&self) -> Measure {
        match self.load {
            Load::Idle { .. } => Measure::Connection,
            _ => Measure::Cpu,
        }
    }

    /// Whether a configuration is to hold what is behind this word.
    pub(crate) fn is(&self, word: &str) -> bool {
        match word {
            "tcp" => self.speaks == Speaks::Tcp,
            "http" => self.speaks != Speaks::Tcp,
            "tls" => self.is_secure(),
            "http2" => self.speaks == Speaks::Http2,
            word => word == self.name || self.traits.iter().any(|own| own == word),
        }
    }

    pub(crate) fn is_secure(&self) -> bool {
        matches!(self.speaks, Speaks::Tls | Speaks::Http2)
    }
}
