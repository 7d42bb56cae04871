//! The check `http`: an answer of 200 to 399, or of the statuses configured, is good; its body is not
//! read.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use weir_model::CheckKind;

use crate::check::connect;
use crate::{CheckSpec, ProbeError};

pub(crate) const SPEC: CheckSpec = CheckSpec {
    name: "http",
    summary: "an answer of 200 to 399, or of `statuses`, is good",
    is: |kind| matches!(kind, CheckKind::Http { .. }),
    probe: |kind, address, mark| match kind {
        CheckKind::Http { path, host, statuses } => Box::pin(async move {
            let status = probe(path, host.as_deref(), address, mark).await?;
            if statuses.contain(status) { Ok(()) } else { Err(ProbeError::Status(status)) }
        }),
        CheckKind::Grpc { .. } | CheckKind::Tcp => Box::pin(async { Err(ProbeError::OtherCheck) }),
    },
};

/// The status that a target answers with.
async fn probe(
    path: &str,
    host: Option<&str>,
    address: SocketAddr,
    mark: Option<u32>,
) -> Result<u16, ProbeError> {
    let stream = connect(address, mark).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    // Both parts of an address are plain ASCII, and so is a host that is configured.
    let host = HeaderValue::from_str(host.unwrap_or(&address.to_string()));
    headers.insert(HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
    headers.insert(USER_AGENT, HeaderValue::from_static("weir-health"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await;
    // The connection is of no further use, whatever body it may still bring.
    connection.abort();
    Ok(response?.status().as_u16())
}
