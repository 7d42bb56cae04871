//! Sockets: the only user of socket2.
#![forbid(unsafe_code)]

mod listen;

pub use listen::{ListenError, bind_shared, bind_sole};
