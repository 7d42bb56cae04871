//! Who holds the kernel side, and the bans that layer 7 asks for, put in force as they come.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use weir_model::Ban;

use crate::kernel::{Kernel, lock};

/// Bans put in force together, where so many wait.
const BATCH_MAX: usize = 256;

/// The kernel side of this process: none where it is off, and none while another process takes it over.
#[derive(Clone, Debug, Default)]
pub struct Holder(Arc<Mutex<Option<Arc<Kernel>>>>);

impl Holder {
    /// The kernel side now.
    #[must_use]
    pub fn kernel(&self) -> Option<Arc<Kernel>> {
        lock(&self.0).clone()
    }

    /// Holds this one from now on; the one before.
    pub fn replace(&self, kernel: Option<Arc<Kernel>>) -> Option<Arc<Kernel>> {
        std::mem::replace(&mut *lock(&self.0), kernel)
    }
}

/// Puts bans in force, on a thread of its own so that nothing else delays them, until every sender is
/// gone. Those that come while there is no kernel side are lost.
///
/// # Panics
/// The system refuses a thread.
#[must_use]
pub fn enforce(holder: Holder, mut wanted: mpsc::Receiver<Ban>) -> JoinHandle<()> {
    let enforce = move || {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while wanted.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let kernel = holder.kernel();
            for ban in batch.drain(..) {
                let Some(kernel) = &kernel else { continue };
                // One that is refused (protected, no room) does not cost the others.
                if let Err(error) = kernel.ban(std::slice::from_ref(&ban)) {
                    tracing::warn!("ban {}: {error}", ban.cidr);
                }
            }
        }
    };
    thread::Builder::new().name("bans".to_owned()).spawn(enforce).expect("start a thread")
}
