//! Sockets: the only user of socket2.
#![forbid(unsafe_code)]

mod listen;
mod marked;
mod reset;

pub use listen::{ListenError, bind_shared, bind_sole};
pub use marked::marked_socket;
pub use reset::reset_on_close;
