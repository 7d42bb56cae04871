//! Sockets and TLS: the only user of socket2 and rustls.
#![forbid(unsafe_code)]

mod listen;
mod marked;
mod tls;

pub use listen::{ListenError, bind_shared, bind_sole};
pub use marked::marked_socket;
pub use tls::{Alpn, ClientConfig, ServerConfig, Tickets, TlsError, TlsStream};
