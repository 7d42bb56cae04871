//! HTTP/2 by `h2`, on both sides. A stream is a connection in memory that speaks HTTP/1.1 with the
//! exchange, so that routing, plugins, limits and counting know one protocol alone.
//!
//! `server` accepts streams and gives them to lanes (`lane`, `stream`); `client` opens them, each behind a
//! `pipe`; `head` translates heads, `body` bodies.

mod backends;
mod body;
mod client;
mod head;
mod lane;
mod server;
mod stream;

pub(crate) use backends::Backends;
pub(crate) use lane::Lane;
pub(crate) use server::serve;

/// Streams that one client may have open at a time.
pub(crate) const STREAMS_MAX: u32 = 128;
/// Bytes of one stream's body that may be on their way to us from a client.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes of all bodies of one connection that may be on their way to us from a client.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one stream's body that may be on their way to us from a backend, which is near.
const BACKEND_STREAM_WINDOW: u32 = 128 * 1024;
/// Bytes of all bodies of one connection that may be on their way to us from a backend. Room for every
/// stream: clients that do not take their answers must not hold up those of others.
const BACKEND_CONNECTION_WINDOW: u32 = STREAMS_MAX * BACKEND_STREAM_WINDOW;
/// Bytes that wait inside `h2` to be sent, of one stream.
const SEND_BUFFER_MAX: usize = 64 * 1024;
/// Streams that a client has reset before we looked at them: more is an attack (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Streams of a connection that a client has cancelled within `PREMATURE`, where they are more than half
/// of all: the same attack, by one who waits until we have looked at them.
const PREMATURE_RESETS_MAX: u64 = 200;
/// A stream that lived for so long was meant seriously: deadlines of a second and more are common.
const PREMATURE: std::time::Duration = std::time::Duration::from_secs(1);
/// Streams that we had to reset because they broke the protocol: more is an attack.
const ERROR_RESETS_MAX: usize = 64;
