//! Clients that ask, and count what they get.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use weir_tests::client::Client;
use weir_tests::world::inside;

/// Connections that ask side by side.
const CONNECTIONS: usize = 8;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of requests.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Requests answered with 200, by the backend that answered.
    pub(crate) by_backend: BTreeMap<String, u64>,
    /// What happened to the others.
    pub(crate) lost: Vec<String>,
}

impl Outcome {
    pub(crate) fn answered(&self) -> u64 {
        self.by_backend.values().sum()
    }

    /// `backend1 500, backend2 500`
    pub(crate) fn spread(&self) -> String {
        let shares = self.by_backend.iter().map(|(name, count)| format!("{name} {count}"));
        shares.collect::<Vec<_>>().join(", ")
    }

    fn take(&mut self, answer: Result<weir_tests::client::Response, String>) {
        match answer {
            Ok(response) if response.status == 200 => {
                let name = response.header("x-backend").unwrap_or("nobody").to_owned();
                *self.by_backend.entry(name).or_default() += 1;
            }
            Ok(response) => self.lost.push(format!("status {}", response.status)),
            Err(error) => self.lost.push(error),
        }
    }
}

/// Asks so many times from a host; `after` hears of every answer.
pub(crate) fn ask(
    namespace: &str,
    address: SocketAddr,
    requests: u64,
    after: impl Fn(u64) + Sync,
) -> Result<Outcome> {
    let (outcome, next) = (Mutex::new(Outcome::default()), AtomicU64::new(0));
    inside(namespace, || {
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    let mut client = None;
                    while next.fetch_add(1, Ordering::Relaxed) < requests {
                        let answer = ask_once(&mut client, address);
                        if let Ok(mut outcome) = outcome.lock() {
                            outcome.take(answer);
                            after(outcome.answered());
                        }
                    }
                });
            }
        });
    })?;
    Ok(outcome.into_inner().unwrap_or_default())
}

/// Asks without end from a host until told; counts answers as they come.
pub(crate) fn ask_until(
    namespace: &str,
    address: SocketAddr,
    end: &AtomicBool,
    answered: &AtomicU64,
) -> Result<()> {
    inside(namespace, || {
        let mut client = None;
        while !end.load(Ordering::Relaxed) {
            if ask_once(&mut client, address).is_ok_and(|response| response.status == 200) {
                answered.fetch_add(1, Ordering::Relaxed);
            } else {
                client = None;
            }
        }
    })
}

/// Asks on the connection that is open, or opens one.
fn ask_once(
    client: &mut Option<Client>,
    address: SocketAddr,
) -> Result<weir_tests::client::Response, String> {
    let mut open = match client.take() {
        Some(open) => open,
        None => Client::try_connect(address, PATIENCE).map_err(|error| error.to_string())?,
    };
    let answer = open.try_get("/")?;
    if answer.header("connection") != Some("close") {
        *client = Some(open);
    }
    Ok(answer)
}
