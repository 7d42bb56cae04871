//! Requests at a constant rate whatever the answers do: latency from when a request was due.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::tools::Aim;
use crate::tools::socket::{Poll, connect, receive};

/// The number of the timer; connections have those below.
const TIMER: usize = usize::MAX;
const BUFFER_SIZE: usize = 64 * 1024;
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    aim: Aim,
    /// Requests a second
    #[arg(long)]
    rate: f64,
}

/// A connection, and the request that is under way on it.
struct Connection {
    stream: TcpStream,
    due: Instant,
    answer: Vec<u8>,
}

/// A request that finds no free connection waits, and its wait counts.
pub(crate) fn run(Options { aim, rate }: &Options) -> Result<()> {
    let request = format!("GET {} HTTP/1.1\r\nHost: bench.test\r\n\r\n", aim.path);
    let mut poll = Poll::new()?;
    let interval = Duration::from_secs_f64(1.0 / rate);
    let timer = ticking(interval)?;
    poll.add(&timer, TIMER)?;
    let mut connections = Vec::new();
    for number in 0..aim.connections {
        let connection = Connection {
            stream: connect(aim.address)?,
            due: Instant::now(),
            answer: Vec::with_capacity(4096),
        };
        poll.add(&connection.stream, number)?;
        connections.push(connection);
    }
    let mut free: VecDeque<usize> = (0..connections.len()).collect();
    let (start, length) = (Instant::now(), aim.length());
    let (mut due, mut latencies, mut buffer) = (start, Vec::new(), vec![0; BUFFER_SIZE]);
    let mut sent = 0_usize;
    while due < start + length || latencies.len() < sent {
        if start.elapsed() > length + PATIENCE {
            // What waits still counts as what it has waited so far.
            let busy = (0..connections.len()).filter(|number| !free.contains(number));
            latencies.extend(busy.map(|number| connections[number].due.elapsed()));
            while due < start + length {
                latencies.push(due.elapsed());
                due += interval;
            }
            break;
        }
        for number in poll.wait()? {
            if number == TIMER {
                // A timer that is not read does not go on.
                let _ = rustix::io::read(&timer, &mut [0_u8; 8]);
                continue;
            }
            let connection = &mut connections[number];
            if connection.is_answered(&mut buffer)? {
                latencies.push(connection.due.elapsed());
                free.push_back(number);
            }
        }
        while due <= Instant::now() && due < start + length {
            let Some(number) = free.pop_front() else { break };
            let connection = &mut connections[number];
            connection.due = due;
            connection.stream.write_all(request.as_bytes()).context("send a request")?;
            sent += 1;
            due += interval;
        }
    }
    latencies.sort_unstable();
    println!("{} {}", percentile(&latencies, 0.50), percentile(&latencies, 0.99));
    Ok(())
}

impl Connection {
    /// Reads; whether the answer is complete now.
    fn is_answered(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let Some(count) = receive(&self.stream, buffer) else { return Ok(false) };
        ensure!(count > 0, "a connection was closed");
        self.answer.extend_from_slice(&buffer[..count]);
        let Some(head) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        let text = String::from_utf8_lossy(&self.answer[..head]).to_ascii_lowercase();
        if !text.starts_with("http/1.1 200") {
            bail!("an answer that is not 200: {text}");
        }
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without its length")?.trim().parse()?;
        let is_complete = self.answer.len() >= head + 4 + length;
        if is_complete {
            self.answer.clear();
        }
        Ok(is_complete)
    }
}

/// A timer without the slack of waits that end by themselves.
fn ticking(interval: Duration) -> Result<std::os::fd::OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let interval = Timespec::try_from(interval).context("an interval")?;
    let times = Itimerspec { it_interval: interval, it_value: interval };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).context("set the timer")?;
    Ok(timer)
}

/// In microseconds.
fn percentile(sorted: &[Duration], part: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place among few requests"
    )]
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
}
