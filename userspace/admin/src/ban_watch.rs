//! `GET /bans/watch`: dropped packets as they come, a JSON object a line.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hyper::Method;
use tokio::sync::{broadcast, mpsc};
use tokio::task::spawn_local;
use weir_l4::{Kernel, Seen};

use crate::api::{Watched, WatchedPacket};
use crate::bans::with_kernel;
use crate::endpoint::{Answer, Endpoint, Port, at_once};

/// Between two looks into the kernel's ring.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Lines that a watcher may be behind; more are lost to it.
const LINES_MAX: usize = 4_096;

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/bans/watch",
    port: Port::Admin,
    summary: "packets as they are dropped, a JSON object a line, at most 1,000 a second and CPU",
    answer: |running, _| {
        at_once(with_kernel(&running, |kernel| Ok(Answer::lines(running.watch.join(kernel)))))
    },
};

/// Whoever watches. The kernel's ring is read once for all.
#[derive(Debug, Default)]
pub struct Watch {
    lines: RefCell<Option<broadcast::Sender<Bytes>>>,
}

impl Watch {
    fn join(&self, kernel: &Arc<Kernel>) -> mpsc::Receiver<Bytes> {
        let mut lines = self.lines.borrow_mut();
        let watched = match lines.as_ref().filter(|lines| lines.receiver_count() > 0) {
            Some(lines) => lines.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(LINES_MAX);
                spawn_local(pump(Arc::clone(kernel), sender.clone()));
                *lines = Some(sender);
                receiver
            }
        };
        let (to_client, stream) = mpsc::channel(1);
        spawn_local(hand_on(watched, to_client));
        stream
    }
}

/// Looks into the ring until nobody watches.
async fn pump(kernel: Arc<Kernel>, lines: broadcast::Sender<Bytes>) {
    kernel.watch();
    let mut untold = kernel.look().map(|sight| (sight.limited, sight.overflowed)).ok();
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    while lines.receiver_count() > 0 {
        interval.tick().await;
        let Ok(sight) = kernel.look() else { break };
        for seen in sight.packets {
            // Nobody may be left to hear it.
            let _ = lines.send(line(&Watched::Packet(packet(seen))));
        }
        let now = (sight.limited, sight.overflowed);
        if let Some(before) = untold.replace(now).filter(|before| *before != now) {
            let (limited, overflowed) = (now.0 - before.0, now.1 - before.1);
            let _ = lines.send(line(&Watched::Untold { limited, overflowed }));
        }
    }
    kernel.unwatch();
}

/// From the pump to one watcher, until it goes away.
async fn hand_on(mut lines: broadcast::Receiver<Bytes>, to_client: mpsc::Sender<Bytes>) {
    loop {
        let line = tokio::select! {
            line = lines.recv() => match line {
                Ok(line) => line,
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    line_of_lost(lost)
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            () = to_client.closed() => return,
        };
        if to_client.send(line).await.is_err() {
            return;
        }
    }
}

fn line_of_lost(lost: u64) -> Bytes {
    line(&Watched::Untold { limited: 0, overflowed: lost })
}

fn line(watched: &Watched) -> Bytes {
    // These types have string keys and nothing that could fail.
    let mut line = serde_json::to_vec(watched).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn packet(seen: Seen) -> WatchedPacket {
    let since = seen.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    WatchedPacket {
        time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        source: seen.source,
        verdict: seen.verdict.to_owned(),
        reason: seen.reason.to_owned(),
        prefix: seen.prefix.to_string(),
        origin: seen.ban.as_ref().map(|ban| ban.origin.to_string()),
        ban_reason: seen.ban.map_or(String::new(), |ban| ban.reason),
        size: seen.size,
    }
}
