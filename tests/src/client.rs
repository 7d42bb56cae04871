//! A client that sends exactly the bytes it is given and reads answers strictly.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a test waits for any answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the balancer, over TCP where nothing else is said.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

/// An answer, read in whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// Its fields in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, without chunk framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Connects from an address of this host.
///
/// # Errors
/// Nobody answers in time.
pub fn connect_from(
    from: SocketAddr,
    to: SocketAddr,
    patience: Duration,
) -> std::io::Result<TcpStream> {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
        sockopt::SendTimeout,
    };
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Of a connection that begins, too.
    let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    setsockopt(&socket, SendTimeout, &nix::sys::time::TimeValLike::milliseconds(patience))?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address, PATIENCE).expect("connect")
    }

    /// Connects, and waits that long for this and for every answer.
    ///
    /// # Errors
    /// Nobody listens, or no answer comes.
    pub fn try_connect(address: SocketAddr, patience: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: Read + Write> Client<S> {
    /// A client over a connection that is there.
    #[must_use]
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are. A balancer that has closed already is no failure here: its answer
    /// is what counts.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends a GET for a path of host `a.example` and reads the answer.
    ///
    /// # Panics
    /// There is no whole answer.
    pub fn get(&mut self, path: &str) -> Response {
        self.try_get(path).expect("an answer")
    }

    /// The same.
    ///
    /// # Errors
    /// There is no whole answer.
    pub fn try_get(&mut self, path: &str) -> Result<Response, String> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        self.try_response(false)
    }

    /// Reads an answer to anything but HEAD.
    ///
    /// # Panics
    /// There is none, or not all of it.
    pub fn response(&mut self) -> Response {
        self.try_response(false).expect("an answer")
    }

    /// Reads an answer; says what is wrong with it.
    ///
    /// # Errors
    /// The connection ended, or the bytes are no HTTP/1.1.
    pub fn try_response(&mut self, to_head: bool) -> Result<Response, String> {
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break self.buffer.drain(..end + 4).collect::<Vec<_>>();
            }
            self.fill()?;
        };
        let mut response = parse_head(&head)?;
        if to_head || response.status < 200 || matches!(response.status, 204 | 304) {
            return Ok(response);
        }
        if response.header("transfer-encoding") == Some("chunked") {
            self.read_chunks(&mut response.body)?;
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(|_| "content-length".to_owned())?;
            response.body = self.take(length)?;
        } else {
            while self.fill().is_ok() {}
            response.body = std::mem::take(&mut self.buffer);
        }
        Ok(response)
    }

    /// Whether the balancer closes the connection, with nothing before it.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        let mut rest = [0; 256];
        match self.stream.read(&mut rest) {
            Ok(0) if self.buffer.is_empty() => true,
            Ok(count) => {
                let rest = String::from_utf8_lossy(rest.get(..count).unwrap_or_default());
                eprintln!("not closed: {:?}, then {rest:?}", String::from_utf8_lossy(&self.buffer));
                false
            }
            Err(error) => {
                eprintln!("not closed: {error}");
                error.kind() == ErrorKind::ConnectionReset
            }
        }
    }

    /// The connection itself.
    #[must_use]
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The same, to read and write past this.
    #[must_use]
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The connection, and what was read of it already.
    #[must_use]
    pub fn into_inner(self) -> (S, Vec<u8>) {
        (self.stream, self.buffer)
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16);
            let size = size.map_err(|_| format!("chunk size `{line}`"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            body.extend(self.take(size)?);
            if !self.line()?.is_empty() {
                return Err("a chunk longer than its size".to_owned());
            }
        }
    }

    fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<_> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill()?;
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn fill(&mut self) -> Result<(), String> {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(format!("closed after {:?}", String::from_utf8_lossy(&self.buffer))),
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn parse_head(head: &[u8]) -> Result<Response, String> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(head).map_err(|error| format!("{error}: {:?}", String::from_utf8_lossy(head)))?;
    let field = |header: &httparse::Header<'_>| {
        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
    };
    let headers = parsed.headers.iter().map(field).collect();
    Ok(Response { status: parsed.code.unwrap_or(0), headers, body: Vec::new() })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
