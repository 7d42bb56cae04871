//! What a relay's thread pays: for messages of a size to and fro, and for bulk one way.
//!
//! `cargo run --release -p weir-relay --example measure`

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use weir_relay::{Pair, Relay, RelayHandle};

const ROUNDS: u32 = 40_000;
const BULK: usize = 4 * 1024 * 1024 * 1024;

fn main() -> std::io::Result<()> {
    let relay = Relay::start(1)?;
    for size in [64, 1024, 16 * 1024, 48 * 1024, 128 * 1024] {
        messages(&relay.handle(), size)?;
    }
    for piece in [16 * 1024, 256 * 1024] {
        bulk(&relay.handle(), piece)?;
    }
    Ok(())
}

fn messages(relay: &RelayHandle, size: usize) -> std::io::Result<()> {
    let (mut client, mut backend) = pair(relay)?;
    let rounds = ROUNDS.min(u32::try_from(800_000_000 / size).unwrap_or(ROUNDS));
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut message = vec![0; size];
        for _ in 0..rounds {
            backend.read_exact(&mut message)?;
            backend.write_all(&message)?;
        }
        Ok(())
    });
    let (start, before, mut message) = (Instant::now(), relay_cpu()?, vec![1; size]);
    for _ in 0..rounds {
        client.write_all(&message)?;
        client.read_exact(&mut message)?;
    }
    let (took, used) = (start.elapsed(), relay_cpu()? - before);
    println!(
        "{size:>7} bytes to and fro: {:>9.1?} a round, {:>9.1?} CPU",
        took / rounds,
        used / rounds
    );
    echo.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))
}

fn bulk(relay: &RelayHandle, size: usize) -> std::io::Result<()> {
    let (mut client, mut backend) = pair(relay)?;
    let source = std::thread::spawn(move || -> std::io::Result<()> {
        let piece = vec![1; size];
        for _ in 0..BULK / size {
            backend.write_all(&piece)?;
        }
        Ok(())
    });
    let (start, before, mut piece) = (Instant::now(), relay_cpu()?, vec![0; 256 * 1024]);
    let all = machine_cpu()?;
    let mut left = BULK;
    while left > 0 {
        left -= client.read(&mut piece)?;
    }
    let (took, used, all) = (start.elapsed(), relay_cpu()? - before, machine_cpu()? - all);
    let mib = f64::from(u32::try_from(BULK / (1024 * 1024)).unwrap_or(u32::MAX));
    let each = |time: Duration| time.as_secs_f64() * 1e6 / mib;
    println!(
        "bulk in {size:>6}: {:>6.0} MiB/s, {:>5.0} µs CPU a MiB, {:>5.0} of the whole machine",
        mib / took.as_secs_f64(),
        each(used),
        each(all),
    );
    source.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))
}

fn pair(relay: &RelayHandle) -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let connect = || -> std::io::Result<_> {
        let far = TcpStream::connect(listener.local_addr()?)?;
        far.set_nodelay(true)?;
        Ok((far, listener.accept()?.0))
    };
    let ((client, near_client), (backend, near_backend)) = (connect()?, connect()?);
    relay.relay(Pair {
        client: near_client,
        backend: near_backend,
        to_backend: Vec::new(),
        to_client: Vec::new(),
        idle: Duration::from_secs(60),
        on_end: Box::new(|_| {}),
    });
    Ok((client, backend))
}

/// CPU time of the relay's threads.
fn relay_cpu() -> std::io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        // Threads of others may end meanwhile.
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("relay-") {
            let times = std::fs::read_to_string(path.join("schedstat"))?;
            let used = times.split(' ').next().and_then(|used| used.parse().ok());
            total += Duration::from_nanos(used.unwrap_or(0));
        }
    }
    Ok(total)
}

/// CPU time of all processors that was not idle, in hundredths of a second.
fn machine_cpu() -> std::io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    let ticks = first.split_whitespace().skip(1).filter_map(|ticks| ticks.parse::<u64>().ok());
    // user nice system idle iowait irq softirq
    let busy = ticks.take(7).enumerate().filter(|(place, _)| !matches!(place, 3 | 4));
    Ok(Duration::from_millis(busy.map(|(_, ticks)| ticks * 10).sum()))
}
