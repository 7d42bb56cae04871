//! Bans that layer 7 asks for, put in force as they come.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use weir_model::Ban;

use crate::kernel::Kernel;

/// Bans put in force together, where so many wait.
const BATCH_MAX: usize = 256;

/// Puts bans in force, on a thread of its own so that nothing else delays them, until every sender is
/// gone.
///
/// # Panics
/// The system refuses a thread.
#[must_use]
pub fn enforce(kernel: Arc<Kernel>, mut wanted: mpsc::Receiver<Ban>) -> JoinHandle<()> {
    let enforce = move || {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while wanted.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            for ban in batch.drain(..) {
                // One that is refused (protected, no room) does not cost the others.
                if let Err(error) = kernel.ban(std::slice::from_ref(&ban)) {
                    tracing::warn!("ban {}: {error}", ban.cidr);
                }
            }
        }
    };
    thread::Builder::new().name("bans".to_owned()).spawn(enforce).expect("start a thread")
}
