//! Asking the running instance.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_admin::api::{Done, Upgrade};
use weir_admin::client::{self, Body, ClientError};

use super::Instance;

/// Asks, and waits for the answer.
pub(crate) fn ask<T: DeserializeOwned>(
    instance: &Instance,
    method: Method,
    path: &str,
    body: Body,
) -> Result<T> {
    Ok(wait(client::ask(&instance.socket, method, path, body))??)
}

/// Runs what asks until it is answered.
pub(crate) fn wait<T>(asking: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("start an event loop")?.block_on(asking))
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

/// Has the running instance start its binary anew, or another, and leave everything to it.
pub(crate) fn upgrade(instance: &Instance, binary: Option<&Path>) -> Result<ExitCode> {
    let binary = binary.map(|path| std::path::absolute(path).context("find the binary"));
    let asked = Upgrade { binary: binary.transpose()? };
    let body = Body::Json(serde_json::to_vec(&asked)?);
    let done: Done = ask(instance, Method::POST, "/upgrade", body)?;
    print(instance, &done, |done| done.message.clone())
}

/// Stops the running instance; with the folder of pins takes down the kernel side, also of one that
/// runs no more.
pub(crate) fn stop(instance: &Instance, fast: bool, detach: Option<&Path>) -> Result<ExitCode> {
    let path = format!("/stop?fast={}&detach={}", u8::from(fast), u8::from(detach.is_some()));
    let asked = wait(client::ask::<Done>(&instance.socket, Method::POST, &path, Body::None))?;
    match (asked, detach) {
        (Err(ClientError::Connect { .. }), Some(pins)) => {
            let count = weir_l4::detach(pins)?;
            let message = match count {
                0 => format!("no weir runs, and nothing is pinned in {}", pins.display()),
                1 => "no weir runs; taken down what it left on 1 interface".to_owned(),
                _ => format!("no weir runs; taken down what it left on {count} interfaces"),
            };
            print(instance, &Done { generation: 0, message }, |done| done.message.clone())
        }
        (asked, _) => print(instance, &asked?, |done| done.message.clone()),
    }
}
