//! One request to a backend of HTTP/2: read from a pipe in HTTP/1.1, its answer written back.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::Response;

use super::backends::Nature;
use super::body::{Cut, Inflow, Outflow};
use super::head;
use crate::buffer::Buffer;
use crate::http1::body::Body;
use crate::http1::chunked::Chunked;
use crate::http1::request::{BodyLength, RequestHead};
use crate::http1::scan::HeadScan;
use crate::pipe::PipeEnd;
use crate::websocket;

/// Serves the pipe's one exchange.
pub(super) async fn serve(
    send: SendRequest<Bytes>,
    pipe: PipeEnd,
    buffer: Buffer,
    nature: &Nature,
) {
    drop(buffer);
    if exchange(send, &pipe, nature).await.is_err() {
        pipe.reset();
    }
}

async fn exchange(send: SendRequest<Bytes>, pipe: &PipeEnd, nature: &Nature) -> Result<(), Cut> {
    let (text, rest) = poll_fn({
        let (mut read, mut scan) = (BytesMut::new(), HeadScan::default());
        move |context| poll_head(context, pipe, &mut read, &mut scan)
    })
    .await?;
    let mut request = RequestHead::default();
    // We wrote it ourselves; its limits were checked when it came.
    let limits = weir_model::Limits {
        header_size: usize::MAX,
        headers: weir_model::Limits::HEADERS_MAX,
        ..weir_model::Limits::default()
    };
    request.parse(&text, &limits).map_err(|_| Cut)?;
    let mut translated = head::request(&request, &text, nature.scheme).map_err(|_| Cut)?;
    let key = websocket_key(&request, &text);
    let mut send = send.ready().await.map_err(|_| Cut)?;
    if key.is_some() {
        nature.settled().await;
        if !send.is_extended_connect_protocol_enabled() {
            return Err(Cut);
        }
        *translated.method_mut() = http::Method::CONNECT;
        translated.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        translated.headers_mut().remove("sec-websocket-key");
    }
    let body = match (request.body, &key) {
        (_, Some(_)) => Body::UntilClose,
        (BodyLength::None, None) => Body::EMPTY,
        (BodyLength::Bytes(size), None) => Body::Length(size),
        (BodyLength::Chunked, None) => Body::Chunked(Chunked::default()),
    };
    let is_empty = matches!(body, Body::Length(0));
    let (response, stream) = send.send_request(translated, is_empty).map_err(|_| Cut)?;
    let mut upload = (!is_empty).then(|| Outflow::new(stream, body, rest, Reason::CANCEL));
    let mut answer = Answer {
        state: State::Head(response),
        to_head_request: request.is_head,
        key,
        is_tunnel: false,
    };
    poll_fn(|context| {
        if let Some(flow) = &mut upload
            && answer.takes_upload()
            && let Poll::Ready(sent) = flow.poll(context, pipe)
        {
            upload = None;
            if sent.is_err() && answer.is_head() {
                // The backend may have answered before it stopped listening.
                return answer.poll(context, pipe);
            }
        }
        if pipe.is_abandoned(context) {
            return Poll::Ready(Err(Cut));
        }
        match answer.poll(context, pipe) {
            // The other direction of a tunnel goes on.
            Poll::Ready(Ok(())) if answer.is_tunnel && upload.is_some() => Poll::Pending,
            polled => polled,
        }
    })
    .await
}

/// The key of a request that asks for a WebSocket.
fn websocket_key(request: &RequestHead, head: &[u8]) -> Option<Vec<u8>> {
    let upgrade = request.upgrade?.get(head);
    let key = request
        .fields
        .iter()
        .find(|field| field.name.get(head).eq_ignore_ascii_case(b"sec-websocket-key"))?;
    upgrade.eq_ignore_ascii_case(b"websocket").then(|| key.value.get(head).to_vec())
}

fn poll_head(
    context: &mut Context<'_>,
    pipe: &PipeEnd,
    read: &mut BytesMut,
    scan: &mut HeadScan,
) -> Poll<Result<(Bytes, Bytes), Cut>> {
    loop {
        if let Some(length) = scan.end(read).map_err(|_| Cut)? {
            let head = read.split_to(length).freeze();
            return Poll::Ready(Ok((head, std::mem::take(read).freeze())));
        }
        match ready!(pipe.poll_take(context)) {
            Ok(bytes) if !bytes.is_empty() => read.extend_from_slice(&bytes),
            _ => return Poll::Ready(Err(Cut)),
        }
    }
}

/// The answer on its way into the pipe.
struct Answer {
    state: State,
    to_head_request: bool,
    /// The request asks for a WebSocket, with this key.
    key: Option<Vec<u8>>,
    /// The backend has agreed to it.
    is_tunnel: bool,
}

enum State {
    Head(ResponseFuture),
    Body(Inflow),
}

impl Answer {
    fn is_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// A tunnel carries nothing before the backend has agreed to it.
    fn takes_upload(&self) -> bool {
        self.key.is_none() || !self.is_head()
    }

    fn poll(&mut self, context: &mut Context<'_>, pipe: &PipeEnd) -> Poll<Result<(), Cut>> {
        loop {
            match &mut self.state {
                State::Body(flow) => return flow.poll(context, pipe),
                State::Head(response) => {
                    while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(context)
                    {
                        let mut text = Vec::new();
                        head::append_response(&interim, true, false, &mut text);
                        pipe.push(&[&text]);
                    }
                    let polled = std::pin::Pin::new(response).poll(context);
                    let (parts, body) = ready!(polled).map_err(|_| Cut)?.into_parts();
                    let response = Response::from_parts(parts, ());
                    let flow = self.begin(&response, body, pipe);
                    self.state = State::Body(flow);
                }
            }
        }
    }

    fn begin(&mut self, response: &Response<()>, body: h2::RecvStream, pipe: &PipeEnd) -> Inflow {
        let mut text = Vec::with_capacity(512);
        let framing = match &self.key {
            Some(key) if response.status().is_success() => {
                self.is_tunnel = true;
                let accept = websocket::accept(key);
                head::append_switch(response, &accept, &mut text)
            }
            _ => {
                let ends = body.is_end_stream();
                head::append_response(response, ends, self.to_head_request, &mut text)
            }
        };
        pipe.push(&[&text]);
        Inflow::new(body, framing)
    }
}
