//! The command line's side of the admin socket.

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::Problem;

/// Why a running Weir did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or it may not be opened.
    #[error(
        "no running weir answers at {socket}: {source}\n\
             start one with `weir run`, or name its socket with `--socket`"
    )]
    Connect {
        /// Where it was looked for.
        socket: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The connection broke in the middle.
    #[error("ask the running weir: {0}")]
    Transport(#[from] hyper::Error),
    /// It refused.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// It answered something else: another version.
    #[error("the running weir answered something unexpected: {0}")]
    Answer(#[from] serde_json::Error),
}

/// What is sent along.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing.
    None,
    /// A JSON value.
    Json(Vec<u8>),
    /// A list, a line each.
    Text(Vec<u8>),
}

/// Asks the Weir behind `socket`.
///
/// # Errors
/// [`ClientError`]: nobody is there, or it refuses.
pub async fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Body,
) -> Result<T, ClientError> {
    let body = answer(socket, method, path, body).await?.collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

/// Asks for an answer of many lines, and tells of each as it comes until `tell` says that it is
/// enough.
///
/// # Errors
/// [`ClientError`]: nobody is there, it refuses, or it goes away.
pub async fn follow<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    mut tell: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), ClientError> {
    let mut body = answer(socket, Method::GET, path, Body::None).await?;
    let mut held = Vec::new();
    while let Some(frame) = body.frame().await {
        held.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = held.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            if tell(serde_json::from_slice(&line)?).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The body of a successful answer.
async fn answer(
    socket: &Path,
    method: Method,
    path: &str,
    body: Body,
) -> Result<Incoming, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| ClientError::Connect { socket: socket.display().to_string(), source })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (content_type, body) = match body {
        Body::None => ("application/json", Vec::new()),
        Body::Json(body) => ("application/json", body),
        Body::Text(body) => ("text/plain", body),
    };
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(HOST, hyper::header::HeaderValue::from_static("localhost"));
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    let response = sender.send_request(request).await?;
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    let body = response.into_body().collect().await?.to_bytes();
    Err(ClientError::Refused(serde_json::from_slice(&body)?))
}
