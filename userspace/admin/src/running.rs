//! What the admin side sees of a running Weir. Lives on the control thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, mpsc, oneshot};
use weir_balance::Upstream;
use weir_l4::Holder;
use weir_l7::Engine;

use crate::api::Done;
use crate::ban_watch::Watch;

/// A running Weir.
#[derive(Debug)]
pub struct Running {
    /// The reactors.
    pub engine: Engine,
    /// The kernel side, if there is one.
    pub kernel: Holder,
    /// Of the configuration in force, in its order.
    pub upstreams: RefCell<Vec<Arc<Upstream>>>,
    /// How many configurations were applied.
    pub generation: Cell<u64>,
    /// Whether it is stopping.
    pub draining: Cell<bool>,
    /// Where the status port is bound.
    pub status_address: Cell<Option<SocketAddr>>,
    /// Whether the kernel selects reactors by CPU and load; else it goes by hash.
    pub selects: Cell<bool>,
    /// The process that this one took over from, while it lives.
    pub predecessor: Cell<Option<u32>>,
    /// When the process started.
    pub started: Instant,
    /// Where dropped packets are told, while somebody watches.
    pub watch: Watch,
    /// Takes orders to the main loop.
    pub orders: mpsc::Sender<Order>,
    /// Who asks the admin side.
    pub asking: Asking,
}

/// Connections to the admin side.
#[derive(Debug, Default)]
pub struct Asking {
    pub(crate) open: Cell<usize>,
    /// Told to go, and that one has gone.
    pub(crate) leave: Notify,
    pub(crate) left: Notify,
}

impl Asking {
    /// Has every connection end once its request is answered; ends when none is open.
    pub async fn end(&self) {
        self.leave.notify_waiters();
        while self.open.get() > 0 {
            self.left.notified().await;
        }
    }
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
    /// Start the binary anew and leave everything to it.
    Upgrade {
        /// Another one than the one that runs.
        binary: Option<PathBuf>,
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
