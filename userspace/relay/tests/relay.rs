//! What passes through a relay, and how it ends.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::{LONG, Relayed, connection};
use weir_net::reset_on_close;
use weir_relay::{End, Ended, Pair, Relay};

const MIB: usize = 1024 * 1024;

#[test]
fn bulk_passes_unchanged_both_ways_at_once() {
    const SIZE: usize = 64 * MIB;
    let relay = Relay::start(2).unwrap();
    let pair = Relayed::start(&relay.handle(), LONG);
    std::thread::scope(|scope| {
        for (from, to, seed) in [(&pair.client, &pair.backend, 3), (&pair.backend, &pair.client, 7)]
        {
            scope.spawn(move || {
                write_noise(from, seed, SIZE);
                from.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                read_noise(to, seed, SIZE);
                assert_eq!(read_rest(to).unwrap(), b"");
            });
        }
    });
    let size = SIZE as u64;
    assert_eq!(pair.ended(), Ended { to_backend: size, to_client: size, how: End::Finished });
    assert_eq!(relay.handle().open(), 0);
}

#[test]
fn small_messages_go_to_and_fro() {
    let relay = Relay::start(1).unwrap();
    let mut pair = Relayed::start(&relay.handle(), LONG);
    for round in 0..500u32 {
        let mut answer = [0; 4];
        pair.client.write_all(&round.to_be_bytes()).unwrap();
        pair.backend.read_exact(&mut answer).unwrap();
        assert_eq!(answer, round.to_be_bytes());
        pair.backend.write_all(&(!round).to_be_bytes()).unwrap();
        pair.client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, (!round).to_be_bytes());
    }
}

#[test]
fn bytes_that_were_handed_over_come_first() {
    let relay = Relay::start(1).unwrap();
    let large = vec![b'x'; 3 * MIB];
    let mut pair = Relayed::start_with(&relay.handle(), LONG, b"first ", &large);
    pair.client.write_all(b"second").unwrap();
    pair.client.shutdown(Shutdown::Write).unwrap();
    pair.backend.write_all(b"after").unwrap();
    pair.backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_rest(&pair.backend).unwrap(), b"first second");
    let answer = read_rest(&pair.client).unwrap();
    assert!(answer.starts_with(&large) && answer.ends_with(b"xafter"));
    assert_eq!(answer.len(), large.len() + 5);
    let sizes = (12, answer.len() as u64);
    let ended = Ended { to_backend: sizes.0, to_client: sizes.1, how: End::Finished };
    assert_eq!(pair.ended(), ended);
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    let relay = Relay::start(1).unwrap();
    for client_first in [true, false] {
        let pair = Relayed::start(&relay.handle(), LONG);
        let (mut one, mut other) = (&pair.client, &pair.backend);
        if !client_first {
            (one, other) = (other, one);
        }
        one.write_all(b"question").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_rest(other).unwrap(), b"question");
        for piece in ["an", "swer"] {
            other.write_all(piece.as_bytes()).unwrap();
            let mut read = vec![0; piece.len()];
            one.read_exact(&mut read).unwrap();
            assert_eq!(read, piece.as_bytes());
        }
        assert_eq!(relay.handle().open(), 1, "it goes on while one direction is open");
        other.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_rest(one).unwrap(), b"");
        assert_eq!(pair.ended().how, End::Finished);
    }
}

#[test]
fn bulk_before_the_end_arrives_in_whole() {
    let relay = Relay::start(1).unwrap();
    let pair = Relayed::start(&relay.handle(), LONG);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            write_noise(&pair.client, 5, 8 * MIB);
            pair.client.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            read_noise(&pair.backend, 5, 8 * MIB);
            assert_eq!(read_rest(&pair.backend).unwrap(), b"");
        });
    });
    drop(pair.backend.shutdown(Shutdown::Write));
    assert_eq!(pair.ended().to_backend, 8 * MIB as u64);
}

#[test]
fn a_reset_is_passed_on() {
    let relay = Relay::start(1).unwrap();
    for (of_client, how) in [(true, End::ClientReset), (false, End::BackendReset)] {
        let mut pair = Relayed::start(&relay.handle(), LONG);
        // A byte has come through, so the pair is relayed when the reset comes.
        pair.client.write_all(b"x").unwrap();
        pair.backend.read_exact(&mut [0]).unwrap();
        let Relayed { client, backend, .. } = &mut pair;
        let (gone, left) = if of_client { (client, backend) } else { (backend, client) };
        reset(gone);
        assert_eq!(read_rest(left).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(pair.ended().how, how);
    }
}

#[test]
fn a_reset_is_seen_while_the_other_side_takes_nothing() {
    let relay = Relay::start(1).unwrap();
    let mut pair = Relayed::start(&relay.handle(), LONG);
    assert!(fill(&pair.client) > 0);
    reset(&mut pair.client);
    assert_eq!(pair.ended().how, End::ClientReset);
}

#[test]
fn silence_ends_a_pair() {
    let relay = Relay::start(1).unwrap();
    let idle = Duration::from_millis(300);
    let start = Instant::now();
    let pairs: Vec<_> = (0..20).map(|_| Relayed::start(&relay.handle(), idle)).collect();
    for pair in &pairs {
        assert_eq!(read_rest(&pair.client).unwrap(), b"");
        assert_eq!(read_rest(&pair.backend).unwrap(), b"");
        assert_eq!(pair.ended(), Ended { to_backend: 0, to_client: 0, how: End::IdleTimeout });
    }
    assert!(start.elapsed() >= idle);
    assert_eq!(relay.handle().open(), 0);
}

/// Writes until nothing more is taken for half a second; how much was.
fn fill(mut stream: &TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (piece, mut size) = (vec![b'f'; 64 * 1024], 0);
    while let Ok(count) = stream.write(&piece) {
        size += count;
    }
    size
}

#[test]
fn a_backend_that_does_not_read_stops_the_client() {
    let relay = Relay::start(1).unwrap();
    let pair = Relayed::start(&relay.handle(), LONG);
    let size = fill(&pair.client);
    assert!(size < 64 * MIB, "{size} bytes were taken for a backend that reads none");
    pair.client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_rest(&pair.backend).unwrap().len(), size);
    // The other direction was never stopped.
    (&pair.backend).write_all(b"done").unwrap();
    pair.backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_rest(&pair.client).unwrap(), b"done");
    let size = size as u64;
    assert_eq!(pair.ended(), Ended { to_backend: size, to_client: 4, how: End::Finished });
}

#[test]
fn a_pair_that_is_cut_with_bytes_on_their_way_does_not_look_complete() {
    let relay = Relay::start(1).unwrap();
    let pair = Relayed::start(&relay.handle(), LONG);
    fill(&pair.client);
    relay.handle().close_all();
    assert_eq!(pair.ended().how, End::Drained);
    assert_eq!(read_rest(&pair.backend).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_drain_waits_until_its_deadline() {
    let relay = Relay::start(2).unwrap();
    let handle = relay.handle();
    let mut pairs: Vec<_> = (0..4).map(|_| Relayed::start(&handle, LONG)).collect();
    let deadline = Instant::now() + Duration::from_millis(300);
    handle.drain(deadline);
    for pair in &mut pairs {
        pair.client.write_all(b"x").unwrap();
        pair.backend.read_exact(&mut [0]).unwrap();
    }
    for pair in &pairs {
        assert_eq!(pair.ended(), Ended { to_backend: 1, to_client: 0, how: End::Drained });
        assert!(Instant::now() >= deadline);
        assert_eq!(read_rest(&pair.client).unwrap(), b"");
    }
    let late = Relayed::start(&handle, LONG);
    assert_eq!(late.ended().how, End::Drained);
    assert_eq!(handle.open(), 0);
}

#[test]
fn pairs_end_with_the_relay() {
    let relay = Relay::start(1).unwrap();
    let handle = relay.handle();
    let pair = Relayed::start(&handle, LONG);
    drop(relay);
    assert_eq!(pair.ended().how, End::Drained);
    assert_eq!(Relayed::start(&handle, LONG).ended().how, End::Drained);
    assert_eq!(handle.open(), 0);
}

#[test]
fn a_pair_whose_sockets_are_gone_is_told_of() {
    let relay = Relay::start(1).unwrap();
    let (client, near_client) = connection();
    let (_backend, near_backend) = connection();
    reset_on_close(&client).unwrap();
    drop(client);
    let (tell, told) = std::sync::mpsc::channel();
    relay.handle().relay(Pair {
        client: near_client,
        backend: near_backend,
        to_backend: Vec::new(),
        to_client: b"lost".to_vec(),
        idle: LONG,
        on_end: Box::new(move |ended| tell.send(ended.how).unwrap_or_default()),
    });
    assert_eq!(told.recv_timeout(common::PATIENCE), Ok(End::ClientReset));
}

/// Resets a connection: closes the only copy of its socket.
fn reset(stream: &mut TcpStream) {
    reset_on_close(stream).unwrap();
    *stream = connection().0;
}

/// Reads to the end of the stream.
fn read_rest(mut stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(|_| rest)
}

/// Bytes that depend on the seed and their place (xorshift).
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn fill(&mut self, piece: &mut [u8]) {
        for word in piece.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

const PIECE: usize = 64 * 1024;

/// Writes so many bytes of noise, a multiple of the piece.
fn write_noise(mut stream: &TcpStream, seed: u64, size: usize) {
    let (mut noise, mut piece) = (Noise::new(seed), vec![0; PIECE]);
    for _ in 0..size / PIECE {
        noise.fill(&mut piece);
        stream.write_all(&piece).expect("write");
    }
}

/// Reads them, and fails where they differ.
fn read_noise(mut stream: &TcpStream, seed: u64, size: usize) {
    let (mut noise, mut expected, mut piece) = (Noise::new(seed), vec![0; PIECE], vec![0; PIECE]);
    for number in 0..size / PIECE {
        noise.fill(&mut expected);
        stream.read_exact(&mut piece).expect("read");
        assert!(piece == expected, "piece {number} differs");
    }
}
