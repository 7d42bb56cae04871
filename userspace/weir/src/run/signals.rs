//! Signals: HUP reloads, USR2 upgrades, TERM and QUIT stop gracefully, INT stops at once.

use anyhow::{Context, Result};
use tokio::signal::unix::{self, SignalKind};

use super::Stop;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Reload,
    Upgrade,
    Stop(Stop),
}

/// The signals of this process.
pub(crate) struct Signals {
    hangup: unix::Signal,
    user2: unix::Signal,
    terminate: unix::Signal,
    quit: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| unix::signal(kind).context("listen for signals");
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            user2: listen(SignalKind::user_defined2())?,
            terminate: listen(SignalKind::terminate())?,
            quit: listen(SignalKind::quit())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.user2.recv() => Signal::Upgrade,
            _ = self.terminate.recv() => Signal::Stop(Stop::Graceful),
            _ = self.quit.recv() => Signal::Stop(Stop::GracefulWithoutLimit),
            _ = self.interrupt.recv() => Signal::Stop(Stop::Fast),
        }
    }

    /// Ends when, while stopping, TERM or INT comes.
    pub(crate) async fn stop_now(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
