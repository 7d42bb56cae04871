//! What answers behind the proxies.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::http::OTHER_CORE;
use crate::http::scenario::{Origin, Scenario};
use crate::process::{Server, Start, free_port};

/// Fields of a header-heavy answer, besides nginx's own.
const FIELDS: usize = 25;

pub(crate) fn start(scenario: &Scenario, folder: &Path) -> Result<Server> {
    let port = free_port()?;
    let words = match scenario.origin {
        Origin::File | Origin::Headers => nginx(scenario, folder, port)?,
        Origin::Chunked => own("chunked", port, Some(scenario.body_size))?,
        Origin::Echo => own("echo", port, None)?,
        Origin::Stream => own("stream", port, None)?,
    };
    Server::start(Start { name: "origin", core: OTHER_CORE, words: &words, port, folder })
}

fn own(tool: &str, port: u16, body_size: Option<usize>) -> Result<Vec<String>> {
    let program = std::env::current_exe()?.display().to_string();
    let mut words = vec![program, "tool".into(), tool.into(), format!("127.0.0.1:{port}")];
    words.extend(body_size.map(|size| size.to_string()));
    Ok(words)
}

/// nginx with a file; what is posted is answered without one.
fn nginx(scenario: &Scenario, folder: &Path, port: u16) -> Result<Vec<String>> {
    let body = "x".repeat(scenario.body_size);
    std::fs::write(folder.join("body"), &body).context("write the origin's file")?;
    // A string of a configuration is short; the posted get a short answer.
    let posted = &body[..body.len().min(1024)];
    let (config, shown) = (folder.join("origin.conf"), folder.display());
    let fields = if scenario.origin == Origin::Headers { fields() } else { String::new() };
    let text = format!(
        "worker_processes 1;\ndaemon off;\npid {shown}/origin.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; \
         open_file_cache max=10; client_body_temp_path {shown}; proxy_temp_path {shown}; \
         fastcgi_temp_path {shown}; uwsgi_temp_path {shown}; scgi_temp_path {shown};\n\
         client_body_buffer_size 128k; default_type text/plain;\n{fields}\
         server {{ listen 127.0.0.1:{port} backlog=4096; root {shown}; \
         location / {{ try_files /body =404; }}\n\
         location /post {{ return 200 \"{posted}\"; }} }} }}\n"
    );
    std::fs::write(&config, text).context("write the origin's configuration")?;
    // Its worker runs as another user where we are root.
    Command::new("chmod").args(["755"]).arg(folder).status().context("open the folder")?;
    Ok(["nginx", "-e", "stderr", "-c", &config.display().to_string()].map(str::to_owned).to_vec())
}

fn fields() -> String {
    let mut text = String::new();
    for number in 1..=FIELDS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "add_header X-Answer-{number} \"value {number} of the answer\";");
    }
    text
}
