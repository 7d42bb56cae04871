//! Floods between namespaces: frames of random sources, as fast as this machine makes them.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weir_l4::Flood;

use crate::packet;
use crate::world::inside;

/// Frames between two looks whether it is to end.
const STRETCH: u32 = 300_000;
/// What Linux says when it begins: largest segment, SACK, time, window scale.
pub const LINUX_OPTIONS: &str = "020405b40402080a00000001000000000103030a";

/// A flood out of a host's `eth0`; what comes back ends there. Ends when dropped.
#[derive(Debug)]
pub struct Flooding {
    ending: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flooding {
    /// Begins it: frames like this one (without its `eth`), of sources in which the bits of `spread` are
    /// random; `rate` frames a second, or as many as it can.
    ///
    /// # Errors
    /// The frame cannot be built, or the kernel does not take it.
    pub fn start(
        namespace: &str,
        balancer: [u8; 6],
        frame: &str,
        spread: u32,
        rate: Option<u32>,
    ) -> Result<Self> {
        let mac = balancer.map(|byte| format!("{byte:02x}")).join(":");
        let frame = packet::build(&format!("eth to {mac} > {frame}"))?;
        let (ending, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, count, namespace) =
            (Arc::clone(&ending), Arc::clone(&sent), namespace.to_owned());
        let mut flood = Flood::load()?;
        inside(&namespace, || flood.attach("sink", "eth0"))??;
        let run = move || {
            let began = Instant::now();
            while !end.load(Ordering::Relaxed) {
                let stretch = rate.map_or(STRETCH, |rate| (rate / 20).max(1));
                // Whoever looks at the count sees that nothing comes.
                let done = inside(&namespace, || flood.send("eth0", &frame, spread, stretch));
                if !matches!(done, Ok(Ok(_))) {
                    break;
                }
                let total = count.fetch_add(stretch.into(), Ordering::Relaxed) + u64::from(stretch);
                if let Some(rate) = rate {
                    let due = Duration::from_secs_f64(total as f64 / f64::from(rate));
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                }
            }
        };
        Ok(Self { ending, sent, thread: Some(std::thread::spawn(run)) })
    }

    /// Frames that were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; how many frames it were.
    #[must_use]
    pub fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Flooding {
    fn drop(&mut self) {
        self.end();
    }
}

/// The Ethernet address of an interface.
///
/// # Errors
/// There is none.
pub fn mac(namespace: &str, interface: &str) -> Result<[u8; 6]> {
    let mut command = Command::new("ip");
    let output = command.args(["-n", namespace, "-o", "link", "show", interface]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mac = text.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
    let mac = mac.with_context(|| format!("no Ethernet address: {text}"))?;
    let bytes: Vec<u8> =
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("six bytes")
}
