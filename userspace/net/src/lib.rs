//! Sockets, TLS, and what connections begin with: the only user of socket2 and rustls.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod client_hello;
pub mod proxy_protocol;

mod crc32c;
mod handover;
mod listen;
mod marked;
#[expect(unsafe_code, reason = "an option that no library knows")]
mod options;
mod reset;
mod tls;

pub use handover::{Handover, Parcel, SOCKETS_MAX};
pub use listen::{ListenError, bind_more, bind_shared, bind_sole, listen};
pub use marked::marked_socket;
pub use options::{set_defer_accept, set_receive_low_water};
pub use reset::reset_on_close;
pub use tls::{Alpn, ClientConfig, ServerConfig, Tickets, TlsError, TlsStream};
