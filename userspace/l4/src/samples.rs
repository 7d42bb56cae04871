//! Sampled dropped packets, from the kernel's ring to the log.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use weir_abi::Verdict;

use crate::Error;

/// How long the reader sleeps before it looks whether it is to end, milliseconds.
const POLL_TIMEOUT_MS: u16 = 200;

/// The thread that reads samples; ends when dropped.
pub(crate) struct Samples {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Samples {
    pub(crate) fn start(ebpf: &mut Ebpf) -> Result<Self, Error> {
        const ATTEMPT: &str = "read sampled packets";
        let logger = EbpfLogger::init_with_logger(ebpf, Words);
        let mut logger = logger.map_err(|error| Error::of(ATTEMPT, &error))?;
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let read = move || {
            while !end.load(Ordering::Relaxed) {
                let mut waiting = [PollFd::new(logger.as_fd(), PollFlags::POLLIN)];
                let ready = poll(&mut waiting, PollTimeout::from(POLL_TIMEOUT_MS));
                if ready.is_ok_and(|ready| ready > 0) {
                    logger.flush();
                }
            }
        };
        let thread = thread::Builder::new().name("xdp-samples".to_owned()).spawn(read);
        let thread = thread.map_err(|error| Error::of(ATTEMPT, &error))?;
        Ok(Self { ending, thread: Some(thread) })
    }
}

/// Logs what the program says, with words instead of the numbers of verdicts.
struct Words;

impl Log for Words {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let mut words = text.splitn(3, ' ');
        let (verdict, number, rest) = (words.next(), words.next(), words.next());
        let index = number.and_then(|number| number.trim_end_matches(',').parse::<usize>().ok());
        match (verdict, index.and_then(|index| Verdict::ALL.get(index)), rest) {
            (Some(verdict), Some(known), Some(rest)) => {
                tracing::debug!("{verdict} {} {rest}", known.reason());
            }
            _ => tracing::debug!("{text}"),
        }
    }

    fn flush(&self) {}
}

impl Drop for Samples {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
