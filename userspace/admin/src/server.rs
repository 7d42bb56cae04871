//! Serving the endpoints over TCP and over the unix socket.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::Running;
use crate::endpoint::{Answer, AnswerBody, Found, Port, Request, find};

/// A request's body; a list of two million prefixes has 40 MB.
const BODY_SIZE_MAX: usize = 256 * 1024 * 1024;
/// A request's head and body must arrive within this time.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait when connections cannot be accepted: out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Serves one port over TCP until the task is ended.
pub async fn serve_tcp(running: Rc<Running>, listener: TcpListener, port: Port) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => serve(&running, stream, port, false),
            Err(_) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
        }
    }
}

/// Serves the admin API over its unix socket until the task is ended.
pub async fn serve_unix(running: Rc<Running>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => serve(&running, stream, Port::Admin, true),
            Err(_) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
        }
    }
}

fn serve<S>(running: &Rc<Running>, stream: S, port: Port, is_local: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (running, asking) = (Rc::clone(running), Rc::clone(running));
    let asked = Rc::new(Notify::new());
    let told = Rc::clone(&asked);
    let service = service_fn(move |request| {
        told.notify_one();
        answer(Rc::clone(&running), request, port, is_local)
    });
    spawn_local(async move {
        let open = OpenConnection::new(asking);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // A client that goes away in the middle has nobody left to tell.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = open.0.asking.leave.notified() => {}
        }
        // One that has asked nothing yet is about to; closed now it would see its request fail.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = asked.notified() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    });
}

/// Counts a connection while it is open.
struct OpenConnection(Rc<Running>);

impl OpenConnection {
    fn new(running: Rc<Running>) -> Self {
        running.asking.open.set(running.asking.open.get() + 1);
        Self(running)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let asking = &self.0.asking;
        asking.open.set(asking.open.get() - 1);
        asking.left.notify_one();
    }
}

async fn answer(
    running: Rc<Running>,
    request: hyper::Request<Incoming>,
    port: Port,
    is_local: bool,
) -> Result<Response<AnswerBody>, Infallible> {
    let answer = match dispatch(running, request, port, is_local).await {
        Ok(answer) | Err(answer) => answer,
    };
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    let content_type = hyper::header::HeaderValue::from_static(answer.content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

async fn dispatch(
    running: Rc<Running>,
    request: hyper::Request<Incoming>,
    port: Port,
    is_local: bool,
) -> Result<Answer, Answer> {
    let (head, body) = request.into_parts();
    if port == Port::Admin {
        refuse_browsers(&head.headers)?;
    }
    let path = head.uri.path();
    let (endpoint, rest) = match find(port, &head.method, path) {
        Found::Endpoint(endpoint, rest) => (endpoint, rest),
        Found::WrongMethod => {
            let message = format!("{path} does not answer to {}", head.method);
            return Err(Answer::problem(StatusCode::METHOD_NOT_ALLOWED, message));
        }
        Found::Nothing => {
            let message = format!("there is no {path} here");
            return Err(Answer::problem(StatusCode::NOT_FOUND, message));
        }
    };
    let body = timeout(READ_TIMEOUT, Limited::new(body, BODY_SIZE_MAX).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            return Err(Answer::problem(StatusCode::PAYLOAD_TOO_LARGE, format!("body: {error}")));
        }
        Err(_) => {
            let message = "the body did not arrive in time";
            return Err(Answer::problem(StatusCode::REQUEST_TIMEOUT, message));
        }
    };
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let request = Request {
        rest,
        query: head.uri.query().unwrap_or("").to_owned(),
        content_type: content_type.unwrap_or("").to_owned(),
        is_local,
        body,
    };
    Ok((endpoint.answer)(running, request).await)
}

/// The admin API asks for no password on loopback, so a web page must not be able to reach it
/// through the operator's browser: neither from another origin nor by a name that resolves to us.
fn refuse_browsers(headers: &HeaderMap) -> Result<(), Answer> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    if headers.contains_key(ORIGIN) || !is_loopback(host) {
        let message = "the admin API answers to loopback addresses only, and not to web pages";
        return Err(Answer::problem(StatusCode::FORBIDDEN, message));
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_a_host_of_the_admin_api() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:8001", true),
            ("127.0.0.1:8001", true),
            ("[::1]:8001", true),
            ("[::1]", true),
            ("", false),
            ("evil.example:8001", false),
            ("192.0.2.1", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
