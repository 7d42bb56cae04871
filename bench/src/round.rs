//! Interleaved rounds of every target.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::process::{Server, free_port};
use crate::scenario::Scenario;
use crate::target::{Place, Target};

/// Where proxies run.
const PROXY_CORE: usize = 0;
/// Where origin and client run.
const OTHER_CORE: usize = 1;

/// What one target did in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) round: u32,
    pub(crate) target: String,
    pub(crate) requests: u64,
    pub(crate) cpu_seconds: f64,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "a benchmark's requests are far below 2^52")]
    pub(crate) fn requests_per_cpu_second(&self) -> f64 {
        self.requests as f64 / self.cpu_seconds
    }
}

/// Runs every target in turn, `rounds` times after one that is not counted.
pub(crate) fn run(
    scenario: &Scenario,
    targets: &[Target],
    rounds: u32,
    length: Duration,
) -> Result<Vec<Round>> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let origin = start_origin(scenario, folder.path())?;
    let mut servers = Vec::new();
    for target in targets {
        let port = free_port()?;
        let words = target.prepare(&Place { folder: folder.path(), port, origin: origin.port })?;
        let server = Server::start(&target.name, PROXY_CORE, &words, port)?;
        check_answer(scenario, server.address()).with_context(|| target.name.clone())?;
        servers.push((target, server));
    }
    let mut measured = Vec::new();
    for round in 0..=rounds {
        for (target, server) in &servers {
            eprintln!("bench: round {round} of {rounds}: {}", target.name);
            let (before, requests) = (server.cpu_seconds()?, load(scenario, server, length)?);
            let cpu_seconds = server.cpu_seconds()? - before;
            if round > 0 {
                measured.push(Round { round, target: target.name.clone(), requests, cpu_seconds });
            }
        }
        servers.rotate_left(1);
    }
    Ok(measured)
}

fn start_origin(scenario: &Scenario, folder: &std::path::Path) -> Result<Server> {
    let file = folder.join(scenario.path.trim_start_matches('/'));
    std::fs::write(file, vec![b'x'; scenario.body_size]).context("write the origin's file")?;
    let (port, config) = (free_port()?, folder.join("origin.conf"));
    let shown = folder.display();
    let text = format!(
        "worker_processes 1;\ndaemon off;\npid {shown}/origin.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; \
         open_file_cache max=10; client_body_temp_path {shown}; proxy_temp_path {shown}; \
         fastcgi_temp_path {shown}; uwsgi_temp_path {shown}; scgi_temp_path {shown};\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; root {shown}; }} }}\n"
    );
    std::fs::write(&config, text).context("write the origin's configuration")?;
    // Its worker runs as another user where we are root.
    Command::new("chmod").args(["755"]).arg(folder).status().context("open the folder")?;
    let words = ["nginx", "-e", "stderr", "-c", &config.display().to_string()].map(str::to_owned);
    Server::start("the origin", OTHER_CORE, &words, port)
}

/// A target that answers something else would be measured on something else.
fn check_answer(scenario: &Scenario, address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let path = &scenario.path;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body =
        answer.windows(4).position(|window| window == b"\r\n\r\n").map(|end| &answer[end + 4..]);
    if !answer.starts_with(b"HTTP/1.1 200") || body != Some(&vec![b'x'; scenario.body_size]) {
        bail!("answers something else than the origin: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// Requests that were answered with 200 in the length of a round.
fn load(scenario: &Scenario, server: &Server, length: Duration) -> Result<u64> {
    let url = format!("http://{}{}", server.address(), scenario.path);
    let output = Command::new("taskset")
        .args(["-c", &OTHER_CORE.to_string(), "wrk", "-t", "1"])
        .args(["-c", &scenario.connections.to_string()])
        .args(["-d", &format!("{}s", length.as_secs()), &url])
        .output()
        .context("run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("errors under load: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    requests.and_then(|(count, _)| count.parse().ok()).context("the requests that wrk counted")
}
