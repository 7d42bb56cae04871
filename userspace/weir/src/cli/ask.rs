//! Asking the running instance.

use std::process::ExitCode;

use anyhow::{Context, Result};
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_admin::api::Done;
use weir_admin::client::{self, Body};

use super::Instance;

/// Asks, and waits for the answer.
pub(crate) fn ask<T: DeserializeOwned>(
    instance: &Instance,
    method: Method,
    path: &str,
    body: Body,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start an event loop")?;
    Ok(runtime.block_on(client::ask(&instance.socket, method, path, body))?)
}

/// Prints an answer: as JSON if that was asked for, else as `human` writes it.
pub(crate) fn print<T: Serialize>(
    instance: &Instance,
    answer: &T,
    human: impl FnOnce(&T) -> String,
) -> Result<ExitCode> {
    use std::io::Write;
    let text = if instance.json { serde_json::to_string_pretty(answer)? } else { human(answer) };
    // A reader that has seen enough (`| head`) is no failure.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn reload(instance: &Instance) -> Result<ExitCode> {
    let done: Done = ask(instance, Method::POST, "/reload", Body::None)?;
    print(instance, &done, |done| done.message.clone())
}

pub(crate) fn stop(instance: &Instance, fast: bool) -> Result<ExitCode> {
    let path = if fast { "/stop?fast=1" } else { "/stop" };
    let done: Done = ask(instance, Method::POST, path, Body::None)?;
    print(instance, &done, |done| done.message.clone())
}
