//! What a relay holds and costs, measured where nothing else runs: one test in a process of its own.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{LONG, Relayed};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use weir_relay::{End, Relay};

const PAIRS: usize = 2000;
/// CPU time that a thread with nothing to do may use while half a second passes.
const IDLE_CPU_MAX: Duration = Duration::from_millis(50);

#[test]
fn idle_and_blocked_pairs_hold_little_and_cost_nothing() {
    idle_pairs_hold_no_pipes();
    idle_pairs_use_no_cpu();
    a_full_peer_uses_no_cpu();
}

fn idle_pairs_hold_no_pipes() {
    let pairs = PAIRS.min(descriptors() / 4 - 20);
    let relay = Relay::start(2).unwrap();
    let before = pipes();
    let mut open: Vec<_> = (0..pairs).map(|_| Relayed::start(&relay.handle(), LONG)).collect();
    let bulk = vec![b'b'; 256 * 1024];
    for (number, pair) in open.iter_mut().enumerate() {
        let message = if number % 50 == 0 { &bulk[..] } else { b"hello" };
        let Relayed { client, backend, .. } = pair;
        std::thread::scope(|scope| {
            // Bulk is more than the sockets hold, so somebody has to read meanwhile.
            if message.len() > 5 {
                scope.spawn(|| client.write_all(message).unwrap());
            } else {
                client.write_all(message).unwrap();
            }
            let mut read = vec![0; message.len()];
            backend.read_exact(&mut read).unwrap();
            assert!(read == message);
        });
    }
    assert_eq!(relay.handle().open(), pairs);
    // A turn gives its pipe back before the next one begins: a message after the other.
    settle(&mut open[0], &mut |pair| pair.client.write_all(b"x").unwrap());
    let held = pipes() - before;
    assert!(held <= 2 * 2 * 32, "{held} ends of pipes for {pairs} idle pairs");
    relay.handle().close_all();
    for pair in &open {
        assert_eq!(pair.ended().how, End::Drained);
    }
    assert_eq!(relay.handle().open(), 0);
}

fn settle(pair: &mut Relayed, send: &mut dyn FnMut(&mut Relayed)) {
    for _ in 0..10 {
        send(pair);
        pair.backend.read_exact(&mut [0]).unwrap();
    }
}

fn idle_pairs_use_no_cpu() {
    let relay = Relay::start(1).unwrap();
    let idle = Duration::from_millis(700);
    let pairs: Vec<_> = (0..100).map(|_| Relayed::start(&relay.handle(), idle)).collect();
    let mut last = Relayed::start(&relay.handle(), idle);
    settle(&mut last, &mut |pair| pair.client.write_all(b"x").unwrap());
    let before = relay_cpu();
    assert_eq!(last.ended().how, End::IdleTimeout);
    let used = relay_cpu() - before;
    assert!(used < IDLE_CPU_MAX, "{used:?} for doing nothing");
    assert!(pairs.iter().all(|pair| pair.ended().how == End::IdleTimeout));
}

fn a_full_peer_uses_no_cpu() {
    let relay = Relay::start(1).unwrap();
    let pair = Relayed::start(&relay.handle(), Duration::from_secs(1));
    fill(&pair.client);
    let before = relay_cpu();
    assert_eq!(pair.ended().how, End::IdleTimeout);
    let used = relay_cpu() - before;
    assert!(used < IDLE_CPU_MAX, "{used:?} while the backend takes nothing");
}

/// Writes until nothing more is taken for a while.
fn fill(mut stream: &TcpStream) {
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let piece = vec![b'f'; 64 * 1024];
    while stream.write(&piece).is_ok() {}
}

/// Ends of pipes that this process has open.
fn pipes() -> usize {
    let folder = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = folder.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}

/// Descriptors that this process may open, after asking for as many as it gets.
fn descriptors() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).unwrap_or(usize::MAX))
}

/// CPU time that this process' threads of the relay have used.
fn relay_cpu() -> Duration {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("relay-") {
            let times = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            let used = times.split(' ').next().and_then(|used| used.parse().ok()).unwrap_or(0);
            total += Duration::from_nanos(used);
        }
    }
    total
}
