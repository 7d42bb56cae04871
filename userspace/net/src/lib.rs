//! Sockets and TLS: the only user of socket2 and rustls.
#![forbid(unsafe_code)]

mod handover;
mod listen;
mod marked;
mod tls;

pub use handover::{Handover, Parcel, SOCKETS_MAX};
pub use listen::{ListenError, bind_more, bind_shared, bind_sole, listen};
pub use marked::marked_socket;
pub use tls::{Alpn, ClientConfig, ServerConfig, Tickets, TlsError, TlsStream};
