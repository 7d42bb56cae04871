//! The check `grpc`: `grpc.health.v1.Health/Check` over HTTP/2 without TLS; SERVING is good.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weir_model::CheckKind;

use crate::check::connect;
use crate::{CheckSpec, ProbeError};

pub(crate) const SPEC: CheckSpec = CheckSpec {
    name: "grpc",
    summary: "SERVING by `grpc.health.v1.Health/Check` over HTTP/2 without TLS is good",
    is: |kind| matches!(kind, CheckKind::Grpc { .. }),
    probe: |kind, address, mark| match kind {
        CheckKind::Grpc { service } => Box::pin(probe(service, address, mark)),
        CheckKind::Http { .. } | CheckKind::Tcp => Box::pin(async { Err(ProbeError::OtherCheck) }),
    },
};

/// Bytes of an answer; a good one has seven.
const ANSWER_SIZE_MAX: usize = 4 * 1024;
/// Of `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

async fn probe(service: &str, address: SocketAddr, mark: Option<u32>) -> Result<(), ProbeError> {
    let stream = connect(address, mark).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = match sender.send_request(request(service, address)).await {
        Ok(response) => read(response).await,
        Err(error) => Err(error.into()),
    };
    connection.abort();
    match serving_status(&answer?)? {
        SERVING => Ok(()),
        other => Err(ProbeError::NotServing(other)),
    }
}

fn request(service: &str, address: SocketAddr) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(message(service)));
    *request.method_mut() = Method::POST;
    let uri: Result<Uri, _> = format!("http://{address}/grpc.health.v1.Health/Check").parse();
    // An address is a good authority.
    *request.uri_mut() = uri.unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("weir-health"));
    request
}

/// `HealthCheckRequest { service }` in a frame of gRPC: not compressed, its size, then field 1.
fn message(service: &str) -> Bytes {
    let mut fields = Vec::new();
    if !service.is_empty() {
        fields.push(0x0a);
        let mut size = service.len();
        while size >= 0x80 {
            fields.push((size as u8) | 0x80);
            size >>= 7;
        }
        fields.push(size as u8);
        fields.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(fields.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&fields);
    frame.into()
}

/// The body of a good answer.
async fn read(response: Response<hyper::body::Incoming>) -> Result<Bytes, ProbeError> {
    let status = response.status().as_u16();
    if status != 200 {
        return Err(ProbeError::Status(status));
    }
    // An answer without a body has what is else after it at its head.
    check_status(response.headers())?;
    let body = Limited::new(response.into_body(), ANSWER_SIZE_MAX).collect().await;
    let body = body.map_err(|_| ProbeError::NotGrpc("it broke off or is too long"))?;
    let trailers = body.trailers().ok_or(ProbeError::NotGrpc("there are no trailers"))?;
    if !check_status(trailers)? {
        return Err(ProbeError::NotGrpc("there is no grpc-status"));
    }
    Ok(body.to_bytes())
}

/// Whether the call is said to have succeeded; an error if it is said to have failed.
fn check_status(headers: &HeaderMap) -> Result<bool, ProbeError> {
    const STATUS: HeaderName = HeaderName::from_static("grpc-status");
    match headers.get(STATUS) {
        None => Ok(false),
        Some(status) if status == "0" => Ok(true),
        Some(status) => {
            Err(ProbeError::GrpcStatus(String::from_utf8_lossy(status.as_bytes()).into_owned()))
        }
    }
}

/// Field 1 of `HealthCheckResponse`; what is absent is 0, which is unknown.
fn serving_status(frame: &[u8]) -> Result<u64, ProbeError> {
    let cut = ProbeError::NotGrpc("its frame is cut or compressed");
    let Some((&[0, a, b, c, d], mut fields)) = frame.split_first_chunk::<5>() else {
        return Err(cut);
    };
    if u32::from_be_bytes([a, b, c, d]) as usize != fields.len() {
        return Err(cut);
    }
    let mut status = 0;
    while !fields.is_empty() {
        let wrong = || ProbeError::NotGrpc("its message has another shape");
        let tag = varint(&mut fields).ok_or_else(wrong)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut fields).ok_or_else(wrong)?,
            (_, 0) => drop(varint(&mut fields).ok_or_else(wrong)?),
            (_, 2) => {
                let size = varint(&mut fields).ok_or_else(wrong)?;
                let size = usize::try_from(size).map_err(|_| wrong())?;
                fields = fields.get(size..).ok_or_else(wrong)?;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(status)
}

/// A number of seven bits a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::body::{Frame, Incoming};
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn messages_are_those_of_protobuf() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(200));
        assert_eq!(&long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
        for (frame, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Ok(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Ok(2)),
            (&[0, 0, 0, 0, 0], Ok(0)),
            (&[0, 0, 0, 0, 6, 0x12, 2, 7, 7, 8, 1], Ok(1)),
            (&[0, 0, 0, 0, 3, 8, 0x80, 1], Ok(128)),
            (&[1, 0, 0, 0, 2, 8, 1], Err(())),
            (&[0, 0, 0, 0, 3, 8, 1], Err(())),
            (&[0, 0, 0, 0, 1, 8], Err(())),
            (&[0, 0, 0, 0, 2, 0x12, 9], Err(())),
            (&[0, 0, 0], Err(())),
        ] {
            assert_eq!(serving_status(frame).map_err(drop), expected, "{frame:?}");
        }
    }

    /// An answer of a server: its status, its body and what comes after it.
    #[derive(Clone, Copy)]
    struct Answer {
        status: u16,
        body: &'static [u8],
        grpc_status: Option<&'static str>,
    }

    /// What a probe for `orders` says of a server that answers so.
    async fn probed(answer: Answer) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request: Request<Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                assert_eq!(request.headers()[CONTENT_TYPE], "application/grpc");
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(asked, message("orders"));
                let trailers = answer.grpc_status.map(|status| {
                    Ok(HeaderMap::from_iter([(
                        HeaderName::from_static("grpc-status"),
                        HeaderValue::from_static(status),
                    )]))
                });
                let body = Full::new(Bytes::from_static(answer.body));
                let body = body.with_trailers(async move { trailers });
                Ok::<_, Infallible>(
                    Response::builder().status(answer.status).body(body.map_frame(keep)).unwrap(),
                )
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
        let result = probe("orders", address, None).await.map_err(|error| error.to_string());
        serve.abort();
        result
    }

    fn keep(frame: Frame<Bytes>) -> Frame<Bytes> {
        frame
    }

    #[tokio::test]
    async fn only_a_service_that_serves_is_good() {
        const SERVES: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
        for (status, body, grpc_status, expected) in [
            (200, SERVES, Some("0"), Ok(())),
            (200, &[0, 0, 0, 0, 2, 8, 2], Some("0"), Err("the service is not serving (2)")),
            (200, &[], Some("5"), Err("gRPC status 5")),
            (200, SERVES, Some("13"), Err("gRPC status 13")),
            (404, &[], None, Err("status 404")),
            (200, SERVES, None, Err("the answer is none of grpc.health.v1: there are no trailers")),
        ] {
            let found = probed(Answer { status, body, grpc_status }).await;
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }
}
