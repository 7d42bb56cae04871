//! HTTP/2 as the library `h2` speaks it: a client, and a backend whose answers a test writes itself.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a body that may be on their way to a client.
const WINDOW: u32 = 1024 * 1024;

/// Runs a test that speaks HTTP/2. What it spawns runs on another thread, so that it may block.
///
/// # Panics
/// It does not end in time.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an event loop");
    let handle = runtime.handle().clone();
    let (end, ended) = oneshot::channel::<()>();
    let driver = std::thread::spawn(move || runtime.block_on(ended));
    let done = handle.block_on(async { tokio::time::timeout(PATIENCE, test).await });
    drop(end);
    let _ = driver.join();
    done.expect("a test that ends in time")
}

/// A client connection.
#[derive(Debug)]
pub struct Client {
    /// Opens streams.
    pub send: SendRequest<Bytes>,
    /// Ends with the connection.
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer, read in whole.
#[derive(Debug, Default)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// What came behind it.
    pub trailers: Option<HeaderMap>,
    /// The answers before the answer.
    pub interim: Vec<Response<()>>,
}

impl Answer {
    /// The first field of that name as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What went wrong, where Weir answered itself.
    #[must_use]
    pub fn message(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    /// Connects with prior knowledge.
    ///
    /// # Panics
    /// Nobody listens, or no HTTP/2 is spoken.
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("connect");
        socket.set_nodelay(true).expect("a socket");
        Self::over(socket).await
    }

    /// Connects over TLS to the server of that name.
    ///
    /// # Panics
    /// As [`Client::connect`], and where the server does not choose HTTP/2.
    pub async fn connect_tls(address: SocketAddr, name: &str, tls: rustls::ClientConfig) -> Self {
        let mut tls = tls;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(address).await.expect("connect");
        socket.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connecting = TlsConnector::from(Arc::new(tls)).connect(name, socket);
        Self::over(connecting.await.expect("a handshake")).await
    }

    async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Self {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(16 * WINDOW);
        builder.enable_push(false);
        Self::with(&builder, stream).await
    }

    /// A client of other settings.
    ///
    /// # Panics
    /// No HTTP/2 is spoken.
    pub async fn with<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        builder: &h2::client::Builder,
        stream: S,
    ) -> Self {
        let (send, connection) = builder.handshake(stream).await.expect("HTTP/2");
        Self { send, connection: tokio::spawn(connection) }
    }

    /// Opens a stream; the body is sent by what is returned.
    ///
    /// # Errors
    /// The connection is closing.
    pub async fn open(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut send = self.send.clone().ready().await?;
        send.send_request(request, ends)
    }

    /// A GET and its answer.
    ///
    /// # Panics
    /// There is no whole answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("an answer")
    }

    /// The same.
    ///
    /// # Errors
    /// There is no whole answer.
    pub async fn try_get(&self, path: &str) -> Result<Answer, h2::Error> {
        let (response, _) = self.open(get(path), true).await?;
        read(response).await
    }

    /// A request with a body, sent while the answer is read.
    ///
    /// # Errors
    /// There is no whole answer.
    pub async fn post(
        &self,
        request: Request<()>,
        body: Bytes,
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let (response, stream) = self.open(request, false).await?;
        let sending = async {
            // A server that answers early need not take it all: the answer is what counts.
            let _ = send_body(stream, body, trailers).await;
        };
        let (answer, ()) = tokio::join!(read(response), sending);
        answer
    }
}

/// A GET of host `a.example`.
///
/// # Panics
/// It is no path.
#[must_use]
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).expect("a request")
}

/// A POST to it.
///
/// # Panics
/// It is no path.
#[must_use]
pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://a.example{path}")).body(()).expect("a request")
}

/// Reads an answer in whole.
///
/// # Errors
/// It breaks off, or the stream is refused.
pub async fn read(mut response: ResponseFuture) -> Result<Answer, h2::Error> {
    let mut interim = Vec::new();
    let response = poll_fn(|context| {
        while let std::task::Poll::Ready(Some(Ok(head))) = response.poll_informational(context) {
            interim.push(head);
        }
        std::pin::Pin::new(&mut response).poll(context)
    })
    .await?;
    let (head, mut stream) = response.into_parts();
    let (body, trailers) = read_body(&mut stream).await?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers, interim })
}

/// Reads a body with its trailers.
///
/// # Errors
/// It breaks off.
pub async fn read_body(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = BytesMut::new();
    while let Some(bytes) = stream.data().await {
        let bytes = bytes?;
        stream.flow_control().release_capacity(bytes.len())?;
        body.extend_from_slice(&bytes);
    }
    Ok((body.to_vec(), stream.trailers().await?))
}

/// Sends a body with its trailers as fast as the other side takes it.
///
/// # Errors
/// The stream was reset.
pub async fn send_body(
    mut stream: SendStream<Bytes>,
    mut body: Bytes,
    trailers: Option<HeaderMap>,
) -> Result<(), h2::Error> {
    while !body.is_empty() {
        send_some(&mut stream, &mut body).await?;
    }
    match trailers {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    }
}

/// Sends as much as the other side takes now, once it takes any.
///
/// # Errors
/// The stream was reset.
pub async fn send_some(stream: &mut SendStream<Bytes>, body: &mut Bytes) -> Result<(), h2::Error> {
    stream.reserve_capacity(body.len());
    while stream.capacity() == 0 {
        match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(room) => drop(room?),
            None => return Err(h2::Reason::STREAM_CLOSED.into()),
        }
    }
    let part = body.split_to(stream.capacity().min(body.len()));
    stream.send_data(part, false)
}

/// A backend of HTTP/2 on a thread of its own; ends when dropped.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicU64>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A request as a backend gets it.
pub type Incoming = (Request<RecvStream>, SendResponse<Bytes>);

impl Backend {
    /// Starts one that serves every connection by `serve`.
    ///
    /// # Panics
    /// There is no free port or thread.
    #[must_use]
    pub fn start<F, S>(tls: Option<rustls::ServerConfig>, serve: F) -> Self
    where
        F: Fn(Connection) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        listener.set_nonblocking(true).expect("a non-blocking socket");
        let connections = Arc::<AtomicU64>::default();
        let (end, ended) = oneshot::channel::<()>();
        let count = Arc::clone(&connections);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("an event loop").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                tokio::select! {
                    () = accept(listener, tls, serve, count) => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, connections, end: Some(end), thread: Some(thread) }
    }

    /// Starts one without TLS whose every stream is answered by `answer`.
    #[must_use]
    pub fn answering<F, A>(answer: F) -> Self
    where
        F: Fn(Incoming) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        Self::start(None, move |mut connection| {
            let answer = answer.clone();
            async move {
                while let Some(Ok(incoming)) = connection.accept().await {
                    tokio::spawn(answer(incoming));
                }
            }
        })
    }

    /// Connections that were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection of a backend.
pub type Connection = h2::server::Connection<Box<dyn Socket>, Bytes>;

/// A socket with or without TLS.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

async fn accept<F, S>(
    listener: tokio::net::TcpListener,
    tls: Option<rustls::ServerConfig>,
    serve: F,
    count: Arc<AtomicU64>,
) where
    F: Fn(Connection) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let socket: Box<dyn Socket> = match &acceptor {
            None => Box::new(socket),
            Some(acceptor) => match acceptor.accept(socket).await {
                Ok(socket) => Box::new(socket),
                Err(_) => continue,
            },
        };
        count.fetch_add(1, Ordering::SeqCst);
        let mut builder = h2::server::Builder::new();
        let connection = builder.enable_connect_protocol().handshake(socket).await;
        if let Ok(connection) = connection {
            tokio::spawn(serve(connection));
        }
    }
}
