//! One request to a backend of HTTP/2: read from a pipe in HTTP/1.1, its answer written back.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
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
    let mut upload = (!is_empty)
        .then(|| Upload { taken: rest, flow: Outflow::new(stream, body, Reason::CANCEL) });
    let mut answer = Answer {
        state: State::Head(response),
        to_head_request: request.is_head,
        key,
        is_tunnel: false,
    };
    poll_fn(|context| {
        if let Some(sending) = &mut upload
            && answer.takes_upload()
            && let Poll::Ready(sent) = sending.poll(context, pipe)
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

/// The request's body on its way out of the pipe.
struct Upload {
    /// Taken out of the pipe and not yet sent.
    taken: Bytes,
    flow: Outflow,
}

impl Upload {
    /// Ready when the body has passed.
    fn poll(&mut self, context: &mut Context<'_>, pipe: &PipeEnd) -> Poll<Result<(), Cut>> {
        loop {
            ready!(self.flow.poll_write(context, &mut self.taken))?;
            if self.flow.is_done() {
                return Poll::Ready(Ok(()));
            }
            match ready!(pipe.poll_take(context)) {
                Ok(bytes) if !bytes.is_empty() => self.taken = join(&self.taken, bytes),
                Ok(_) if self.flow.ends_at_close() => return Poll::Ready(self.flow.end()),
                _ => return Poll::Ready(self.flow.cut()),
            }
        }
    }
}

fn join(rest: &Bytes, more: Bytes) -> Bytes {
    if rest.is_empty() {
        return more;
    }
    let mut joined = rest.clone().chain(more);
    let length = joined.remaining();
    joined.copy_to_bytes(length)
}

/// Passes on what the backend sends; ready when all of it has passed.
fn pass_into(
    pipe: &PipeEnd,
    flow: &mut Inflow,
    context: &mut Context<'_>,
) -> Poll<Result<(), Cut>> {
    // Where nobody reads any more, that is all.
    while ready!(pipe.poll_room(context)).is_ok() {
        match ready!(flow.poll_take(context)) {
            Ok(bytes) if bytes.is_empty() => {
                pipe.shutdown();
                break;
            }
            Ok(bytes) => pipe.push(&[&bytes]),
            Err(Cut) => {
                pipe.reset();
                return Poll::Ready(Err(Cut));
            }
        }
    }
    Poll::Ready(Ok(()))
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
                State::Body(flow) => return pass_into(pipe, flow, context),
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
        let ends = body.is_end_stream();
        let framing = match &self.key {
            Some(key) if response.status().is_success() => {
                self.is_tunnel = true;
                let accept = websocket::accept(key);
                head::append_switch(response, &accept, &mut text)
            }
            _ => head::append_response(response, ends, self.to_head_request, &mut text),
        };
        pipe.push(&[&text]);
        Inflow::new(body, ends, framing)
    }
}
