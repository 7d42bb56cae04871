//! What the admin side sees of a running Weir. Lives on the control thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use weir_balance::Upstream;
use weir_l4::Kernel;
use weir_l7::Engine;

use crate::api::Done;
use crate::ban_watch::Watch;

/// A running Weir.
#[derive(Debug)]
pub struct Running {
    /// The reactors.
    pub engine: Engine,
    /// The kernel side; `None` where it is off.
    pub kernel: Option<Arc<Kernel>>,
    /// Of the configuration in force, in its order.
    pub upstreams: RefCell<Vec<Arc<Upstream>>>,
    /// How many configurations were applied.
    pub generation: Cell<u64>,
    /// Whether it is stopping.
    pub draining: Cell<bool>,
    /// Where the status port is bound.
    pub status_address: Cell<Option<SocketAddr>>,
    /// When the process started.
    pub started: Instant,
    /// Where dropped packets are told, while somebody watches.
    pub watch: Watch,
    /// Takes orders to the main loop.
    pub orders: mpsc::Sender<Order>,
}

/// What the main loop is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration again and apply it.
    Reload {
        /// Told what came of it: a sentence that says why it was refused.
        done: oneshot::Sender<Result<Done, String>>,
    },
    /// Have a VIP served by listeners of this host, or forwarded again.
    MoveVip {
        /// The VIP.
        name: String,
        /// Whether this host is to serve it.
        is_local: bool,
        /// Told what came of it.
        done: oneshot::Sender<Result<Done, String>>,
    },
    /// Stop: after open requests are answered, or at once.
    Stop {
        /// Whether to wait for open requests.
        graceful: bool,
        /// Whether to take down the kernel side, too.
        detach: bool,
    },
}
