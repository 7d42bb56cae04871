//! A real HTTP/1.1 origin, whose path says what it does.
//!
//! `/` 1 KiB · `/bytes/N` · `/chunked/N` · `/echo` the request's body, passed back while it arrives · `/headers` the request's head
//! as text · `/slow/MS` · `/status/N` · `/close` closes after its answer · `/health`

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

/// The longest `/bytes/N` and `/chunked/N`.
const BODY_SIZE_MAX: usize = 256 * 1024 * 1024;
const CHUNK: usize = 4096;

/// An origin on a thread of its own; ends when dropped.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<AtomicU64>,
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
        let listener = TcpListener::bind(address).expect("bind a backend");
        let address = listener.local_addr().expect("a bound address");
        let requests = Arc::<AtomicU64>::default();
        let (end, ended) = oneshot::channel();
        let (count, name) = (Arc::clone(&requests), name.to_owned());
        let thread = std::thread::spawn(move || serve_until(listener, &name, &count, ended));
        Self { address, requests, end: Some(end), thread: Some(thread) }
    }

    /// Requests that arrived here in whole (`/echo`: whose head did), probes of `/health` left out.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
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
    serve_until(listener, name, &Arc::default(), ended);
    Ok(())
}

fn serve_until(
    listener: TcpListener,
    name: &str,
    requests: &Arc<AtomicU64>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an event loop");
    listener.set_nonblocking(true).expect("a non-blocking socket");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a registered socket");
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (name, requests) = (name.to_owned(), Arc::clone(requests));
                let service =
                    service_fn(move |request| answer(request, name.clone(), Arc::clone(&requests)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        };
        tokio::select! {
            () = accept => {}
            _ = ended => {}
        }
    });
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(
    request: Request<Incoming>,
    name: String,
    requests: Arc<AtomicU64>,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
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
        requests.fetch_add(1, Ordering::SeqCst);
    }
    let mut response = Response::new(match what {
        "bytes" => full(vec![b'x'; size]),
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
    if what == "close" {
        headers.insert("connection", hyper::header::HeaderValue::from_static("close"));
    }
    if let Ok(name) = hyper::header::HeaderValue::from_str(&name) {
        headers.insert("x-backend", name);
    }
    Ok(response)
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
