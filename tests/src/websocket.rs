//! WebSockets over whatever carries them, by the library `tungstenite`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

use crate::client::PATIENCE;
use crate::http2;

/// What a server says when it is asked for `/close`.
pub const GOODBYE: u16 = 4001;

/// A server that gives back every message. Ends when dropped.
#[derive(Debug)]
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts one that speaks HTTP/1.1.
    ///
    /// # Panics
    /// There is no free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let ending = Arc::<AtomicBool>::default();
        let end = Arc::clone(&ending);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                // It ends with its client.
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, ending, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut closes = false;
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    let look = |request: &Request<()>, response| {
        closes = request.uri().path() == "/close";
        Ok(response)
    };
    let Ok(mut socket) = tungstenite::accept_hdr(stream, look) else { return };
    if closes {
        let _ = socket.close(Some(CloseFrame { code: GOODBYE.into(), reason: "enough".into() }));
    }
    echo(&mut socket);
}

/// Gives back every message until the other side closes.
pub fn echo<S: Read + Write>(socket: &mut WebSocket<S>) {
    while let Ok(message) = socket.read() {
        // Pings and closes are answered by the library.
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            return;
        }
    }
    let _ = socket.flush();
}

/// Opens a WebSocket by HTTP/1.1.
///
/// # Panics
/// The server does not agree.
pub fn open<S: Read + Write>(path: &str, stream: S) -> WebSocket<S> {
    let opened = tungstenite::client(format!("ws://a.example{path}"), stream);
    opened.map(|(socket, _)| socket).expect("a WebSocket")
}

/// The request by which a client of HTTP/2 asks for one (RFC 8441).
///
/// # Panics
/// It is no path.
#[must_use]
pub fn connect_request(path: &str) -> Request<()> {
    Request::connect(format!("http://a.example{path}"))
        .extension(h2::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(())
        .expect("a request")
}

/// Opens a WebSocket by HTTP/2.
///
/// # Panics
/// The server does not agree.
pub async fn open_http2(client: &http2::Client, path: &str) -> WebSocket<UnixStream> {
    let (response, send) = client.open(connect_request(path), false).await.expect("a stream");
    let response = response.await.expect("an answer");
    assert_eq!(response.status(), 200);
    WebSocket::from_raw_socket(bridge(response.into_body(), send), Role::Client, None)
}

/// A backend of HTTP/2 that gives back every message of a WebSocket, and refuses all else.
#[must_use]
pub fn http2_echo() -> http2::Backend {
    http2::Backend::answering(|(request, mut respond)| async move {
        let protocol = request.extensions().get::<h2::ext::Protocol>();
        if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
            let refusal = http::Response::builder().status(404).body(()).expect("an answer");
            let _ = respond.send_response(refusal, true);
            return;
        }
        let Ok(send) = respond.send_response(http::Response::new(()), false) else { return };
        let stream = bridge(request.into_body(), send);
        std::thread::spawn(move || {
            echo(&mut WebSocket::from_raw_socket(stream, Role::Server, None));
        });
    })
}

/// A stream of HTTP/2 as a blocking one.
///
/// # Panics
/// There are no sockets left.
#[must_use]
pub fn bridge(mut recv: RecvStream, mut send: SendStream<Bytes>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.set_read_timeout(Some(PATIENCE)).expect("a socket");
    ours.set_nonblocking(true).expect("a socket");
    let ours = tokio::net::UnixStream::from_std(ours).expect("a socket");
    let (mut reader, mut writer) = ours.into_split();
    tokio::spawn(async move {
        let mut space = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut space).await {
            let mut bytes = Bytes::copy_from_slice(&space[..count]);
            while !bytes.is_empty() {
                if http2::send_some(&mut send, &mut bytes).await.is_err() {
                    return;
                }
            }
        }
        let _ = send.send_data(Bytes::new(), true);
    });
    tokio::spawn(async move {
        while let Some(Ok(bytes)) = recv.data().await {
            let _ = recv.flow_control().release_capacity(bytes.len());
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    });
    theirs
}

/// Checks that everything a WebSocket carries comes back, up to the close of both.
///
/// # Panics
/// It does not.
pub fn exercise<S: Read + Write>(mut socket: WebSocket<S>) {
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::{Data, OpCode};
    let mut check = |message: Message| {
        socket.send(message.clone()).expect("a message sent");
        assert!(socket.read().expect("a message") == message, "another message came back");
    };
    check(Message::text("hello"));
    check(Message::text(""));
    check(Message::binary(crate::backend::pattern(1024 * 1024, "websocket")));
    for size in [1, 125, 126, 65_535, 65_536] {
        check(Message::binary(crate::backend::pattern(size, "websocket")));
    }
    let piece = |text: &'static str, opcode, last| {
        Message::Frame(Frame::message(Bytes::from(text), OpCode::Data(opcode), last))
    };
    socket.write(piece("in ", Data::Text, false)).expect("a frame");
    socket.write(piece("three ", Data::Continue, false)).expect("a frame");
    socket.write(piece("pieces", Data::Continue, true)).expect("a frame");
    socket.flush().expect("frames sent");
    assert_eq!(socket.read().expect("a message"), Message::text("in three pieces"));
    socket.send(Message::Ping(Bytes::from("are you there"))).expect("a ping");
    assert_eq!(socket.read().expect("a pong"), Message::Pong(Bytes::from("are you there")));
    let close = CloseFrame { code: 4000.into(), reason: "done".into() };
    socket.close(Some(close.clone())).expect("a close");
    assert_eq!(socket.read().expect("a close"), Message::Close(Some(close)));
    let ended = socket.read().expect_err("the end");
    assert!(matches!(ended, tungstenite::Error::ConnectionClosed), "{ended}");
}
