//! gRPC through Weir, by the client and the server of `tonic`: every kind of call, errors, deadlines.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::BoxFuture;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::{self, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};
use weir_tests::balancer::{self, Balancer};
use weir_tests::http2::run;
use weir_tests::tls::{ANY_VERSION, Authority};

const HTTP2: &str = ", protocols: [http2]";
const TO_HTTP2: &str = ", protocol: http2";
type Message = Vec<u8>;

/// Messages as they are, without a schema.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Message;
    type Decode = Message;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, message: Message, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining()).to_vec()))
    }
}

/// What the server does; each kind of call is one of its methods.
#[derive(Clone)]
struct Service {
    /// Told when a call ends before it was answered.
    cancelled: Sender<()>,
}

impl tonic::server::UnaryService<Message> for Service {
    type Response = Message;
    type Future = BoxFuture<Response<Message>, Status>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        let cancelled = Cancelled(Some(self.cancelled.clone()));
        Box::pin(async move {
            let answer = match request.get_ref().as_slice() {
                b"fail" => Err(Status::not_found("no such thing: 100 %")),
                b"deadline" => {
                    let deadline = request.metadata().get("grpc-timeout").cloned();
                    let deadline = deadline.map(|text| text.to_str().unwrap_or("").to_owned());
                    Err(Status::deadline_exceeded(deadline.unwrap_or_default()))
                }
                b"never" => std::future::pending().await,
                message => {
                    let mut response = Response::new(message.to_ascii_uppercase());
                    if let Some(asked) = request.metadata().get("x-ask") {
                        response.metadata_mut().insert("x-answer", asked.clone());
                    }
                    Ok(response)
                }
            };
            cancelled.not();
            answer
        })
    }
}

/// Tells that a call ended before it was answered.
struct Cancelled(Option<Sender<()>>);

impl Cancelled {
    fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

type Messages = Pin<Box<dyn tokio_stream::Stream<Item = Result<Message, Status>> + Send>>;

impl tonic::server::ServerStreamingService<Message> for Service {
    type Response = Message;
    type ResponseStream = Messages;
    type Future = BoxFuture<Response<Messages>, Status>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        let text = String::from_utf8_lossy(request.get_ref()).into_owned();
        let (count, fails) = text.split_once(' ').unwrap_or((&text, ""));
        let count: usize = count.parse().unwrap_or(0);
        let messages = (0..count).map(|at| Ok(format!("{at}").into_bytes()));
        let end = (!fails.is_empty()).then(|| Err(Status::data_loss("that was not all")));
        let stream: Messages =
            Box::pin(tokio_stream::iter(messages.chain(end).collect::<Vec<_>>()));
        Box::pin(async move { Ok(Response::new(stream)) })
    }
}

impl tonic::server::ClientStreamingService<Message> for Service {
    type Response = Message;
    type Future = BoxFuture<Response<Message>, Status>;

    fn call(&mut self, request: Request<Streaming<Message>>) -> Self::Future {
        Box::pin(async move {
            let (mut stream, mut all) = (request.into_inner(), Vec::new());
            while let Some(message) = stream.next().await {
                all.extend(message?);
            }
            Ok(Response::new(all))
        })
    }
}

impl tonic::server::StreamingService<Message> for Service {
    type Response = Message;
    type ResponseStream = Messages;
    type Future = BoxFuture<Response<Messages>, Status>;

    fn call(&mut self, request: Request<Streaming<Message>>) -> Self::Future {
        let upper =
            |message: Result<Message, Status>| message.map(|text| text.to_ascii_uppercase());
        let stream: Messages = Box::pin(request.into_inner().map(upper));
        Box::pin(async move { Ok(Response::new(stream)) })
    }
}

async fn answer(
    request: http::Request<Incoming>,
    service: Service,
) -> Result<http::Response<Body>, std::convert::Infallible> {
    let mut grpc = tonic::server::Grpc::new(Raw);
    Ok(match request.uri().path() {
        "/test.T/Unary" => grpc.unary(service, request).await,
        "/test.T/Server" => grpc.server_streaming(service, request).await,
        "/test.T/Client" => grpc.client_streaming(service, request).await,
        "/test.T/Both" => grpc.streaming(service, request).await,
        _ => Status::unimplemented("no such call").into_http(),
    })
}

/// Starts a server in the runtime of the test; where it listens, and what tells of calls that were given up.
async fn server(tls: Option<rustls::ServerConfig>) -> (std::net::SocketAddr, Receiver<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cancelled, told) = channel();
    tokio::spawn(async move {
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            let service = Service { cancelled: cancelled.clone() };
            match &acceptor {
                None => drop(tokio::spawn(serve(socket, service))),
                Some(acceptor) => {
                    let socket = acceptor.accept(socket).await.unwrap();
                    tokio::spawn(serve(socket, service));
                }
            }
        }
    });
    (address, told)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(socket: S, service: Service) {
    let answer = hyper::service::service_fn(move |request| answer(request, service.clone()));
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(socket), answer).await;
}

/// A connection of a client of gRPC.
struct Channel(SendRequest<Body>);

impl GrpcService<Body> for Channel {
    type ResponseBody = Incoming;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<http::Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

async fn client<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(socket: S) -> Grpc<Channel> {
    let io = TokioIo::new(socket);
    let (send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut grpc =
        Grpc::with_origin(Channel(send), "http://grpc.example".parse::<http::Uri>().unwrap());
    grpc.ready().await.unwrap();
    grpc
}

fn path(name: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(name)
}

#[test]
fn every_kind_of_call() {
    run(async {
        let (address, _) = server(None).await;
        let weir = Balancer::start(&balancer::with(&[address], HTTP2, TO_HTTP2));
        let socket = TcpStream::connect(weir.address("web")).await.unwrap();
        calls(client(socket).await).await;
    });
}

#[test]
fn every_kind_of_call_over_tls() {
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &["grpc.example", "127.0.0.1"]);
    run(async {
        let (address, _) = server(Some(Authority::server(&leaf, None, &["h2"]))).await;
        let listener = format!("{HTTP2}, tls: {{ certificates: [{leaf}] }}");
        let service = format!("{TO_HTTP2}, tls: {{ ca: \"{}\" }}", authority.pem().display());
        let weir = Balancer::start(&balancer::with(&[address], &listener, &service));
        let mut config = authority.client(ANY_VERSION, None);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(weir.address("web")).await.unwrap();
        let name = ServerName::try_from("grpc.example").unwrap();
        let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
        calls(client(socket).await).await;
    });
}

async fn calls(mut client: Grpc<Channel>) {
    let mut request = Request::new(b"hello".to_vec());
    request.metadata_mut().insert("x-ask", "1".parse().unwrap());
    let response = client.unary(request, path("/test.T/Unary"), Raw).await.unwrap();
    assert_eq!(response.metadata().get("x-answer").unwrap(), "1");
    assert_eq!(response.metadata().get("grpc-status").unwrap(), "0", "the trailers came");
    assert_eq!(response.get_ref(), b"HELLO");
    // 1 MiB: frames of HTTP/2 are no frames of gRPC.
    let large = vec![b'a'; 1024 * 1024];
    let response = client.unary(Request::new(large), path("/test.T/Unary"), Raw).await.unwrap();
    assert!(response.into_inner() == vec![b'A'; 1024 * 1024]);
    let stream =
        client.server_streaming(Request::new(b"1000".to_vec()), path("/test.T/Server"), Raw);
    let received: Vec<_> = stream.await.unwrap().into_inner().collect().await;
    assert_eq!(received.len(), 1_000);
    assert_eq!(received[999].as_deref().unwrap(), b"999");
    let stream =
        client.server_streaming(Request::new(b"2 x".to_vec()), path("/test.T/Server"), Raw);
    let received: Vec<_> = stream.await.unwrap().into_inner().collect().await;
    let failure = received[2].as_ref().unwrap_err();
    assert_eq!((received.len(), failure.code()), (3, Code::DataLoss), "after two messages");
    let pieces = (0..1_000).map(|_| b"piece".to_vec());
    let request = Request::new(tokio_stream::iter(pieces));
    let response = client.client_streaming(request, path("/test.T/Client"), Raw).await.unwrap();
    assert_eq!(response.into_inner(), b"piece".repeat(1_000));
    // One message answers the other: nothing waits for the end.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let request = Request::new(ReceiverStream::new(receiver));
    let mut both = client.streaming(request, path("/test.T/Both"), Raw).await.unwrap().into_inner();
    for text in [b"one", b"two"] {
        sender.send(text.to_vec()).await.unwrap();
        assert_eq!(both.next().await.unwrap().unwrap(), text.to_ascii_uppercase());
    }
    drop(sender);
    assert!(both.next().await.is_none());
    let failed = client.unary(Request::new(b"fail".to_vec()), path("/test.T/Unary"), Raw).await;
    let failed = failed.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::NotFound, "no such thing: 100 %"));
    let failed = client.unary(Request::new(b"x".to_vec()), path("/test.T/None"), Raw).await;
    assert_eq!(failed.unwrap_err().code(), Code::Unimplemented);
}

#[test]
fn deadlines_and_cancellations_arrive() {
    run(async {
        let (address, cancelled) = server(None).await;
        let weir = Balancer::start(&balancer::with(&[address], HTTP2, TO_HTTP2));
        let socket = TcpStream::connect(weir.address("web")).await.unwrap();
        let mut client = client(socket).await;
        let mut request = Request::new(b"deadline".to_vec());
        request.set_timeout(Duration::from_millis(200));
        let failed = client.unary(request, path("/test.T/Unary"), Raw).await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::DeadlineExceeded, "200000u"));
        let call = client.unary(Request::new(b"never".to_vec()), path("/test.T/Unary"), Raw);
        let given_up = tokio::time::timeout(Duration::from_millis(100), call).await;
        assert!(given_up.is_err(), "the server does not answer");
        cancelled.recv_timeout(Duration::from_secs(10)).expect("the server hears of it");
        client.ready().await.unwrap();
        let answer = client.unary(Request::new(b"on".to_vec()), path("/test.T/Unary"), Raw).await;
        assert_eq!(answer.unwrap().into_inner(), b"ON");
    });
}

/// Which one is the library's choice: it takes our JSON for a message that it cannot read.
#[test]
fn a_refusal_of_ours_is_an_error() {
    run(async {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let weir = Balancer::start(&balancer::with(&[nobody], HTTP2, TO_HTTP2));
        let socket = TcpStream::connect(weir.address("web")).await.unwrap();
        let mut client = client(socket).await;
        for _ in 0..2 {
            let call = client.unary(Request::new(b"x".to_vec()), path("/test.T/Unary"), Raw);
            let code = call.await.unwrap_err().code();
            assert!(matches!(code, Code::Unavailable | Code::Internal), "{code}");
            client.ready().await.expect("the connection goes on");
        }
    });
}
