//! What layer 7 has found out about a client, told to the kernel side.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use weir_model::{Ban, BanOrigin, Cidr};

/// Bans that may wait to be put in force; more are not made.
const WAITING_MAX: usize = 65_536;

/// Where a reactor asks for bans. Asking never waits: it is one push into a queue.
#[derive(Clone, Debug)]
pub struct Bans(mpsc::Sender<Ban>);

impl Bans {
    /// The reactors' end of the queue, and the end from which bans are put in force.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Ban>) {
        let (sender, wanted) = mpsc::channel(WAITING_MAX);
        (Self(sender), wanted)
    }

    /// Asks that a source be banned for a while. False when too many bans wait already, or the kernel
    /// side is off.
    #[must_use]
    pub fn ban(&self, source: IpAddr, rule: &str, reason: &str, lasts: Duration) -> bool {
        let now = SystemTime::now();
        let origin = BanOrigin::Rule(rule.to_owned());
        let mut ban = Ban::new(Cidr::host(source), origin, now);
        ban.reason = reason.to_owned();
        ban.expires = now.checked_add(lasts);
        self.0.try_send(ban).is_ok()
    }
}
