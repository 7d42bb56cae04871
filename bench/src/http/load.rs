//! The clients: what was answered in the length of a round.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::files::folder;
use crate::http::OTHER_CORE;
use crate::http::scenario::{Load, Origin, Scenario, Speaks};
use crate::tools::tls::HOST;

/// How much longer than its round a client may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How `timeout` tells that it ended a command.
const TIMED_OUT: i32 = 124;

/// Where a load goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) address: SocketAddr,
    pub(crate) length: Duration,
    /// The certificate to trust.
    pub(crate) cert: &'a Path,
}

impl Aim<'_> {
    /// Runs the scenario's client.
    pub(crate) fn run(&self) -> Result<f64> {
        match &self.scenario.load {
            Load::Wrk { connections, script, close } => {
                self.wrk(*connections, script.as_deref(), *close)
            }
            Load::H2load { connections, streams } => self.h2load(*connections, *streams),
            Load::Handshakes { connections, resumed } => {
                self.own("handshakes", *connections, if *resumed { &["--resumed"] } else { &[] })
            }
            Load::Messages { connections, size } => {
                let size = size.to_string();
                let asks = self.scenario.origin == Origin::Stream;
                let arguments = ["--size", &size, "--asks"];
                self.own("messages", *connections, &arguments[..if asks { 3 } else { 2 }])
            }
            Load::Idle { .. } => bail!("idle connections are no load"),
        }
    }

    fn wrk(&self, connections: u32, script: Option<&str>, close: bool) -> Result<f64> {
        let mut command = pinned("wrk", self.length);
        command.args(["-t", "1", "-c", &connections.to_string()]);
        command.args(["-d", &format!("{}s", self.length.as_secs().max(1))]);
        if let Some(script) = script {
            command.arg("-s").arg(folder().join("scripts").join(script));
        }
        if close {
            command.args(["-H", "Connection: close"]);
        }
        let text = run(command.arg(format!("http://{}{}", self.address, self.scenario.path)))?;
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            bail!("errors under load: {}", text.trim());
        }
        let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
        let requests = requests.and_then(|(count, _)| count.parse().ok());
        requests.context("the requests that wrk counted")
    }

    fn h2load(&self, connections: u32, streams: u32) -> Result<f64> {
        let mut command = pinned("h2load", self.length);
        command.args(["-t", "1", "-c", &connections.to_string(), "-m", &streams.to_string()]);
        command.args(["-D", &self.length.as_secs().max(1).to_string()]);
        command.arg(format!("--connect-to={}", self.address));
        if self.scenario.speaks != Speaks::Http2 {
            command.arg("--h1");
        }
        let port = self.address.port();
        let text = run(command.arg(format!("https://{HOST}:{port}{}", self.scenario.path)))?;
        let done = H2load::read(&text).with_context(|| format!("read h2load: {text}"))?;
        let is_whole = done.bytes >= done.good * byte_count(self.scenario.body_size);
        ensure!(done.good > 0.0 && done.bad == 0.0 && is_whole, "errors under load: {text}");
        Ok(done.good)
    }

    /// Our own client, which prints a number.
    fn own(&self, tool: &str, connections: u32, arguments: &[&str]) -> Result<f64> {
        let text = run(self.own_command(tool, connections)?.args(arguments))?;
        text.trim().parse().with_context(|| format!("what the client counted: {text}"))
    }

    /// p50 and p99 at a constant rate, in microseconds.
    pub(crate) fn pace(&self, rate: f64) -> Result<(f64, f64)> {
        let Load::Wrk { connections, .. } = self.scenario.load else {
            bail!("only plain requests are paced")
        };
        let mut command = self.own_command("pace", connections)?;
        let text = run(command.args(["--rate", &format!("{rate:.3}")]))?;
        let (p50, p99) = text.trim().split_once(' ').context("what the client measured")?;
        Ok((p50.parse()?, p99.parse()?))
    }

    fn own_command(&self, tool: &str, connections: u32) -> Result<Command> {
        let mut command = pinned(&std::env::current_exe()?.display().to_string(), self.length);
        command.args(["tool", tool, &self.address.to_string()]);
        command.args(["--connections", &connections.to_string()]);
        command.args(["--milliseconds", &self.length.as_millis().to_string()]);
        command.args(["--path", &self.scenario.path]).arg("--cert").arg(self.cert);
        Ok(command)
    }
}

/// What h2load counted.
#[derive(Debug, PartialEq)]
struct H2load {
    /// Whole answers; those of other kinds than 2xx are bad besides.
    good: f64,
    bad: f64,
    /// Of bodies.
    bytes: f64,
}

impl H2load {
    fn read(text: &str) -> Option<Self> {
        let requests = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
        let codes = text.lines().find_map(|line| line.strip_prefix("status codes: "))?;
        let traffic = text.lines().find_map(|line| line.strip_prefix("traffic: "))?;
        let number = |line: &str, what: &str| {
            let part = line.split(", ").find(|part| part.ends_with(what))?;
            part.split(' ').next()?.parse::<f64>().ok()
        };
        let failed = ["failed", "errored", "timeout"].map(|what| number(requests, what));
        let others = ["3xx", "4xx", "5xx"].map(|what| number(codes, what));
        let bad = failed.into_iter().chain(others).sum::<Option<f64>>()?;
        let body = traffic.split(", ").find(|part| part.ends_with("data"))?;
        let bytes = body.split_once('(')?.1.split_once(')')?.0.parse().ok()?;
        Some(Self { good: number(requests, "succeeded")?, bad, bytes })
    }
}

#[expect(clippy::cast_precision_loss, reason = "bodies are small")]
fn byte_count(size: usize) -> f64 {
    size as f64
}

/// A client on its core, ended where a proxy leaves it waiting.
fn pinned(program: &str, length: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.arg((length + PATIENCE).as_secs().to_string());
    command.args(["taskset", "-c", &OTHER_CORE.to_string(), program]);
    command
}

/// What a client prints.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("run the client")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(TIMED_OUT) {
        bail!("the client did not end");
    }
    if !output.status.success() {
        bail!("errors under load: {text}{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_prints() {
        let text = "finished in 1.00s, 1000.00 req/s, 1.0MB/s\n\
            requests: 1000 total, 1064 started, 1000 done, 998 succeeded, 2 failed, 1 errored, 0 timeout\n\
            status codes: 999 2xx, 0 3xx, 1 4xx, 0 5xx\n\
            traffic: 1.06MB (1111111) total, 100KB (100) headers (space savings 0.00%), 1.0MB (1022976) data\n";
        let expected = H2load { good: 998.0, bad: 4.0, bytes: 1_022_976.0 };
        assert_eq!(H2load::read(text), Some(expected));
    }
}
