//! Floods of frames: the connection is closed or slowed down, Weir stays small and serves others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_tests::backend::{Backend, Speaks};
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;
use weir_tests::frames::{Frames, field, frame, head};

/// How long one flood may go on where nobody ends it.
const FLOOD_MAX: Duration = Duration::from_millis(700);
/// Bytes by which Weir may grow in one flood.
const GROWTH_MAX: u64 = 20 * 1024 * 1024;
/// Bytes that one stream may take whose answer nobody takes: windows, pipes and buffers are 640 KiB, and
/// the allocator keeps pages of its own for each size.
const STREAM_MAX: u64 = 1024 * 1024;
/// Frames that are written at once.
const BATCH: usize = 500;

/// What became of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Weir closed the connection.
    Closed,
    /// Weir reads no more until its answers are read.
    Held,
    /// It took everything, for as long as it lasted.
    Taken,
}

fn with_backend() -> (Backend, Balancer) {
    let backend = Backend::start("b");
    let listener = ", protocols: [http1, http2]";
    let weir = Balancer::start(&balancer::with(&[backend.address], listener, ""));
    (backend, weir)
}

/// The most memory that Weir has had, bytes.
fn peak(weir: &Balancer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Sends what `next` makes, batch by batch, while another client is served.
fn flood(weir: &Balancer, start: &[u8], mut next: impl FnMut(u32) -> Vec<u8> + Send) -> End {
    let address = weir.address("web");
    let (before, ended, served) = (peak(weir), AtomicBool::new(false), AtomicU64::new(0));
    let end = std::thread::scope(|scope| {
        let (ended, served) = (&ended, &served);
        scope.spawn(move || {
            let mut other = Client::connect(address);
            while !ended.load(Ordering::Relaxed) || served.load(Ordering::Relaxed) == 0 {
                assert_eq!(other.get("/").status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut frames = Frames::open(address);
        frames.set_write_timeout(FLOOD_MAX);
        frames.send(start);
        let began = Instant::now();
        let mut end = End::Taken;
        let mut count = 0;
        while began.elapsed() < FLOOD_MAX {
            let batch: Vec<_> =
                (0..BATCH).flat_map(|at| next(count + u32::try_from(at).unwrap())).collect();
            count += u32::try_from(BATCH).unwrap();
            if !frames.send(&batch) {
                let held = began.elapsed() >= FLOOD_MAX;
                end = if held { End::Held } else { End::Closed };
                break;
            }
        }
        ended.store(true, Ordering::Relaxed);
        end
    });
    let grown = peak(weir).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{} KiB more", grown / 1024);
    assert!(served.load(Ordering::Relaxed) > 0);
    end
}

/// The number of the n-th stream of a client.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn of_what_has_to_be_answered() {
    let (_backend, weir) = with_backend();
    // Answers that nobody reads pile up in sockets until Weir reads no more.
    let ping = frame("PING", 0, 0, &[0; 8]);
    flood(&weir, &[], |_| ping.clone());
    let settings = frame("SETTINGS", 0, 0, &[]);
    flood(&weir, &[], |_| settings.clone());
    let many: Vec<_> = (0..100u8).flat_map(|at| [0, 4, 0, 0, 0xff, at]).collect();
    let settings = frame("SETTINGS", 0, 0, &many);
    flood(&weir, &[], |_| settings.clone());
}

#[test]
fn of_streams_that_are_reset_at_once() {
    let (backend, weir) = with_backend();
    let pair = |number| {
        let open = frame("HEADERS", 5, stream(number), &head("GET", "/slow/100"));
        [open, frame("RST_STREAM", 0, stream(number), &8u32.to_be_bytes())].concat()
    };
    assert_eq!(flood(&weir, &[], pair), End::Closed);
    // What reached the backend of it is little.
    assert!(backend.connections() < 2_000, "{}", backend.connections());
}

/// One that waits until its streams were accepted before it resets them.
#[test]
fn of_streams_that_are_reset_later() {
    let (backend, weir) = with_backend();
    let mut frames = Frames::open(weir.address("web"));
    let mut opened = 0;
    for number in 0..2_000 {
        let open = frame("HEADERS", 5, stream(number), &head("GET", "/slow/1000"));
        if !frames.send(&open) || !frames.is_alive() {
            break;
        }
        opened += 1;
        frames.send(&frame("RST_STREAM", 0, stream(number), &8u32.to_be_bytes()));
    }
    assert!(opened < 1_000, "{opened} streams were opened and reset");
    assert!(backend.connections() < 1_000, "{}", backend.connections());
    assert_eq!(crate::get(weir.address("web"), "/").status, 200);
}

/// Resets that Weir is made to send, by requests that break the rules.
#[test]
fn of_streams_that_we_have_to_reset() {
    let (_backend, weir) = with_backend();
    let broken = [head("GET", "/"), field("connection", "close")].concat();
    let open = |number| frame("HEADERS", 5, stream(number), &broken);
    assert_eq!(flood(&weir, &[], open), End::Closed);
    let zero = |number| {
        let open = frame("HEADERS", 4, stream(number), &head("POST", "/slow/1000"));
        [open, frame("WINDOW_UPDATE", 0, stream(number), &0u32.to_be_bytes())].concat()
    };
    assert_eq!(flood(&weir, &[], zero), End::Closed);
}

#[test]
fn of_heads_without_end() {
    let (_backend, weir) = with_backend();
    let start = frame("HEADERS", 1, 1, &head("GET", "/"));
    let empty = frame("CONTINUATION", 0, 1, &[]);
    assert_eq!(flood(&weir, &start, |_| empty.clone()), End::Closed);
    let large = frame("CONTINUATION", 0, 1, &field("x", &"y".repeat(10_000)));
    assert_eq!(flood(&weir, &start, |_| large.clone()), End::Closed);
    // A field that is told once and named again and again (the table of HPACK as a bomb).
    let told = [&[0x40][..], &field("x", &"y".repeat(3_900))[1..]].concat();
    let bomb = [head("GET", "/"), told, vec![0xbe; 12_000]].concat();
    let bombs = |number| frame("HEADERS", 5, stream(number), &bomb);
    flood(&weir, &[], bombs);
    assert_eq!(crate::get(weir.address("web"), "/").status, 200);
}

#[test]
fn of_frames_that_say_nothing() {
    let (_backend, weir) = with_backend();
    let start = frame("HEADERS", 4, 1, &head("POST", "/"));
    let empty = frame("DATA", 0, 1, &[]);
    assert_eq!(flood(&weir, &start, |_| empty.clone()), End::Closed);
    let padding = frame("DATA", 8, 1, &[&[200][..], &[0; 200]].concat());
    flood(&weir, &start, |_| padding.clone());
    let priority = |number| frame("PRIORITY", 0, stream(number), &[0, 0, 0, 0, 10]);
    flood(&weir, &[], priority);
    let window = frame("WINDOW_UPDATE", 0, 1, &1u32.to_be_bytes());
    flood(&weir, &start, |_| window.clone());
    let unknown = frame("UNKNOWN", 0, 1, &[0; 100]);
    flood(&weir, &start, |_| unknown.clone());
}

/// Many answers that nobody takes: they wait at the backend and not here.
#[test]
fn of_answers_that_are_not_taken() {
    let backend = Backend::start_speaking("b", Speaks { http2: true, tls: None });
    let keys = (", protocols: [http1, http2]", ", protocol: http2");
    let weir = Balancer::start(&balancer::with(&[backend.address], keys.0, keys.1));
    let before = peak(&weir);
    let address = weir.address("web");
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let mut frames = Frames::open(address);
            // Windows as large as they may be, and a socket that nobody reads.
            let window = [&[0, 4][..], &(1u32 << 30).to_be_bytes()].concat();
            frames.send(&frame("SETTINGS", 0, 0, &window));
            frames.send(&frame("WINDOW_UPDATE", 0, 0, &(1u32 << 30).to_be_bytes()));
            for number in 0..100 {
                frames.send(&frame(
                    "HEADERS",
                    5,
                    stream(number),
                    &head("GET", "/chunked/10000000"),
                ));
            }
            frames
        })
        .collect();
    weir.wait_until("requests", |status| status["requests"]["total"] == 400);
    for _ in 0..20 {
        assert_eq!(crate::get(address, "/bytes/100000").body.len(), 100_000);
    }
    let grown = peak(&weir).saturating_sub(before);
    assert!(grown / 400 < STREAM_MAX, "{} KiB for each stream", grown / 400 / 1024);
    drop(stuck);
}
