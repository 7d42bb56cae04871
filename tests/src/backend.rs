//! A real origin of HTTP/1.1 or HTTP/2, with or without TLS, whose path says what it does.
//!
//! `/` 1 KiB · `/bytes/N` · `/chunked/N` · `/pattern/N/SEED` · `/echo` the request's body, passed back while it arrives · `/headers` the request's head
//! as text · `/slow/MS` · `/status/N` · `/close` closes after its answer · `/health`

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::socket::{Backlog, listen};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// The longest `/bytes/N` and `/chunked/N`.
const BODY_SIZE_MAX: usize = 256 * 1024 * 1024;
const CHUNK: usize = 4096;

/// What an origin speaks.
#[derive(Clone, Debug, Default)]
pub struct Speaks {
    /// HTTP/2, with prior knowledge or after ALPN, and not HTTP/1.1.
    pub http2: bool,
    /// TLS beneath it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// What has arrived at an origin.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    connections: AtomicU64,
}

/// An origin on a thread of its own; ends when dropped.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Counts>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Backend {
    /// Starts one on a free loopback port; `name` is in every answer's `x-backend`.
    ///
    /// # Panics
    /// There is no free port or thread.
    #[must_use]
    pub fn start(name: &str) -> Self {
        Self::start_at(name, ([127, 0, 0, 1], 0).into())
    }

    /// Starts one at an address.
    ///
    /// # Panics
    /// The address is in use.
    #[must_use]
    pub fn start_at(name: &str, address: SocketAddr) -> Self {
        Self::start_listening(name, address, Speaks::default())
    }

    /// Starts one that speaks something else than plain HTTP/1.1.
    ///
    /// # Panics
    /// There is no free port or thread.
    #[must_use]
    pub fn start_speaking(name: &str, speaks: Speaks) -> Self {
        Self::start_listening(name, ([127, 0, 0, 1], 0).into(), speaks)
    }

    fn start_listening(name: &str, address: SocketAddr, speaks: Speaks) -> Self {
        let listener = TcpListener::bind(address).expect("bind a backend");
        // As many as may come at once: the standard library has 128 wait at most, and one that is dropped
        // tries again after a second, which is too late.
        let backlog = Backlog::new(1024).expect("a backlog");
        listen(&listener, backlog).expect("listen again");
        let address = listener.local_addr().expect("a bound address");
        let counts = Arc::<Counts>::default();
        let (end, ended) = oneshot::channel();
        let (shared, name) = (Arc::clone(&counts), name.to_owned());
        let thread =
            std::thread::spawn(move || serve_until(listener, &name, &speaks, &shared, ended));
        Self { address, counts, end: Some(end), thread: Some(thread) }
    }

    /// Requests that arrived here in whole (`/echo`: whose head did), probes of `/health` left out.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Connections that were accepted; over TLS, those whose handshake succeeded.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
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

/// Serves on this thread until the process ends.
///
/// # Errors
/// The address cannot be bound.
pub fn serve_forever(address: SocketAddr, name: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let (_end, ended) = oneshot::channel();
    serve_until(listener, name, &Speaks::default(), &Arc::default(), ended);
    Ok(())
}

fn serve_until(
    listener: TcpListener,
    name: &str,
    speaks: &Speaks,
    counts: &Arc<Counts>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an event loop");
    listener.set_nonblocking(true).expect("a non-blocking socket");
    let acceptor = speaks.tls.clone().map(TlsAcceptor::from);
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a registered socket");
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (name, counts) = (name.to_owned(), Arc::clone(counts));
                let (http2, acceptor) = (speaks.http2, acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, http2, name, counts).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serve(stream, http2, name, counts).await,
                            Err(error) => eprintln!("backend {name}: {error}"),
                        },
                    }
                });
            }
        };
        tokio::select! {
            () = accept => {}
            _ = ended => {}
        }
    });
}

async fn serve<S>(stream: S, http2: bool, name: String, counts: Arc<Counts>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    counts.connections.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(move |request| answer(request, name.clone(), Arc::clone(&counts)));
    let stream = TokioIo::new(stream);
    // How a connection ends is seen at the other side.
    if http2 {
        let server = http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(stream, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(stream, service).await;
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(
    request: Request<Incoming>,
    name: String,
    counts: Arc<Counts>,
) -> Result<Response<Body>, hyper::Error> {
    let (path, version) = (request.uri().path().to_owned(), request.version());
    let mut segments = path.trim_start_matches('/').split('/');
    let what = segments.next().unwrap_or("");
    let number: usize = segments.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let size = number.min(BODY_SIZE_MAX);
    let head = head_of(&request);
    let echoed = if what == "echo" {
        Some(request.into_body().boxed())
    } else {
        // A request counts when it has arrived in whole.
        request.into_body().collect().await?;
        None
    };
    if what != "health" {
        counts.requests.fetch_add(1, Ordering::SeqCst);
    }
    let mut response = Response::new(match what {
        "bytes" => full(vec![b'x'; size]),
        "pattern" => full(pattern(size, segments.next().unwrap_or(""))),
        "chunked" => Chunks { left: size }.boxed(),
        "echo" => echoed.unwrap_or_else(|| full("")),
        "headers" => full(head),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            full("slow\n")
        }
        "status" | "close" | "health" => full("ok\n"),
        _ => full(vec![b'x'; 1024]),
    });
    if what == "status" {
        *response.status_mut() = u16::try_from(number)
            .ok()
            .and_then(|status| hyper::StatusCode::from_u16(status).ok())
            .unwrap_or(hyper::StatusCode::IM_A_TEAPOT);
    }
    let headers = response.headers_mut();
    // HTTP/2 has no such field.
    if what == "close" && version < hyper::Version::HTTP_2 {
        headers.insert("connection", hyper::header::HeaderValue::from_static("close"));
    }
    if let Ok(name) = hyper::header::HeaderValue::from_str(&name) {
        headers.insert("x-backend", name);
    }
    Ok(response)
}

/// The body of `/pattern/N/SEED`.
#[must_use]
pub fn pattern(size: usize, seed: &str) -> Vec<u8> {
    let mut state = seed.bytes().fold(0x2545_F491_4F6C_DD1Du64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// A body of so many bytes whose length is not told.
struct Chunks {
    left: usize,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let length = CHUNK.min(self.left);
        self.left -= length;
        let frame = (length > 0).then(|| Ok(Frame::data(Bytes::from(vec![b'y'; length]))));
        std::task::Poll::Ready(frame)
    }
}

/// The head of a request as text, one field a line, names in lower case.
fn head_of(request: &Request<Incoming>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}
