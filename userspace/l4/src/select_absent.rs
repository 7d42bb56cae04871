//! Which reactor gets a connection, in a build without the kernel side: the kernel goes by hash.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::Error;

/// Sockets that the kernel selects from, by the configured address of their listener.
pub type Group = (SocketAddr, Arc<Vec<TcpListener>>);

/// Selects nothing.
#[derive(Default)]
pub struct Selector;

impl Selector {
    /// Selects nothing.
    ///
    /// # Errors
    /// Always.
    pub fn follow(&mut self, _: Vec<Group>, _: &[Option<usize>]) -> Result<(), Error> {
        Err(Error::Absent)
    }

    /// Nobody is told.
    pub fn tell(&self, _: &[u32]) {}

    /// No.
    #[must_use]
    pub fn is_used(&self) -> bool {
        false
    }
}

/// Nothing is selected.
pub fn unselect(_: &[Group]) {}
