//! Frames of HTTP/2 as bytes: for what no library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::client::PATIENCE;

/// What a connection begins with.
pub const MAGIC: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames, by number.
pub const KINDS: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];
/// Flags by name; the first two are the same bit.
pub const FLAGS: [(&str, u8); 5] =
    [("END_STREAM", 1), ("ACK", 1), ("END_HEADERS", 4), ("PADDED", 8), ("PRIORITY", 32)];
/// Codes of errors, by number.
pub const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// What it says, where it tells of an error or of a status.
    #[must_use]
    pub fn meaning(&self) -> String {
        let code = |at: usize| {
            let code = self.payload.get(at..at + 4).map(|code| usize::from(code[3]));
            code.and_then(|code| CODES.get(code)).copied().unwrap_or("unknown")
        };
        match self.kind {
            1 => format!("status {} {}", self.stream, status(&self.payload)),
            3 => format!("reset {} {}", self.stream, code(0)),
            7 => format!("goaway {}", code(4)),
            _ => KINDS.get(usize::from(self.kind)).copied().unwrap_or("unknown").to_owned(),
        }
    }
}

/// The status of an answer: its first field, in the words that `h2` has for those that tests look for.
fn status(block: &[u8]) -> u16 {
    // The size of the table may be told first.
    let start = block.iter().take_while(|&&byte| byte & 0xe0 == 0x20).count();
    match block.get(start..).unwrap_or_default() {
        [indexed @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]
        }
        // 431 in the code of Huffman.
        [0x48 | 0x08, 0x83, 0x69, 0x90, 0xff, ..] => 431,
        _ => 0,
    }
}

/// A frame as bytes.
#[must_use]
pub fn frame(kind: &str, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let kind = KINDS.iter().position(|known| *known == kind).unwrap_or(0x7f);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let kind = u8::try_from(kind).unwrap_or(u8::MAX);
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field of a head that no table is needed for.
#[must_use]
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        length(text.len(), &mut bytes);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// An integer of seven bits (RFC 7541 section 5.1).
fn length(length: usize, out: &mut Vec<u8>) {
    let byte = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
    if length < 127 {
        return out.push(byte(length));
    }
    out.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        out.push(byte(rest % 128) | 128);
        rest /= 128;
    }
    out.push(byte(rest));
}

/// The head of a request of host `a.example`.
#[must_use]
pub fn head(method: &str, path: &str) -> Vec<u8> {
    [
        field(":method", method),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "a.example"),
    ]
    .concat()
}

/// A connection whose frames are written and read one by one.
#[derive(Debug)]
pub struct Frames {
    socket: TcpStream,
    held: Vec<u8>,
}

impl Frames {
    /// Connects and says nothing.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.set_nodelay(true).expect("a socket");
        Self { socket, held: Vec::new() }
    }

    /// Connects and agrees on the settings, both sides having none of their own.
    #[must_use]
    pub fn open(address: SocketAddr) -> Self {
        let mut frames = Self::connect(address);
        let settings = frame("SETTINGS", 0, 0, &[]);
        let acknowledged = frame("SETTINGS", 1, 0, &[]);
        frames.send(&[MAGIC, &settings, &acknowledged].concat());
        frames
    }

    /// Sends bytes; false when the other side takes no more, or not soon.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// How long a write may take before [`Frames::send`] gives up.
    ///
    /// # Panics
    /// It is zero.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.socket.set_write_timeout(Some(timeout)).expect("a socket");
    }

    /// The next frame; `None` at the end.
    pub fn read(&mut self) -> Option<Frame> {
        while self.held.len() < 9 {
            self.fill()?;
        }
        let length = usize::from(self.held[0]) << 16
            | usize::from(self.held[1]) << 8
            | usize::from(self.held[2]);
        while self.held.len() < 9 + length {
            self.fill()?;
        }
        let bytes: Vec<_> = self.held.drain(..9 + length).collect();
        let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        Some(Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() })
    }

    /// Reads up to a frame that means this; what came instead otherwise.
    ///
    /// # Errors
    /// The connection ended before, or nothing more came.
    pub fn wait_for(&mut self, meaning: &str) -> Result<(), String> {
        let mut seen = Vec::new();
        while let Some(frame) = self.read() {
            let said = frame.meaning();
            if said == meaning {
                return Ok(());
            }
            seen.push(said);
        }
        Err(format!("{seen:?}, then the end"))
    }

    /// Whether a ping is answered.
    pub fn is_alive(&mut self) -> bool {
        if !self.send(&frame("PING", 0, 0, b"areyouup")) {
            return false;
        }
        while let Some(frame) = self.read() {
            if frame.kind == 6 && frame.flags == 1 && frame.payload == b"areyouup" {
                return true;
            }
        }
        false
    }

    fn fill(&mut self) -> Option<()> {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => {
                    self.held.extend_from_slice(&bytes[..count]);
                    return Some(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}
