//! The checks of `tests/fuzz` on inputs that a fixed seed makes out of good ones and bad ones.
//!
//! With `WEIR_FUZZ_CORPUS=tests/fuzz/corpus` the inputs to begin with are written there, for `cargo fuzz`.

#[path = "../fuzz/src/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

use weir_l7::fuzz;

use crate::framing;

const ROUNDS: usize = 20_000;
/// A configuration takes longer to read than a head.
const ROUNDS_CONFIG: usize = 2_000;
/// Bytes of a mutated input.
const SIZE_MAX: usize = 4 * 1024;
/// What is put into inputs besides single bytes.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"ffffffffffffffff",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Host: a\r\n",
    b"HTTP/1.0",
    b"Connection: host, close\r\n",
    b"http://",
    b"PROXY TCP4 ",
    b"\x16\x03\x01",
    b"\0\0",
    b"\xff\xff",
    b"  - ",
];

#[test]
fn request_heads() {
    run("http1_request_head", &heads(), ROUNDS, fuzz::request_head);
}

#[test]
fn response_heads() {
    let samples = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y \r\n\r\nhello",
        "HTTP/1.1 204\r\nconnection: x, close\r\nx: 1\r\n\r\n",
        "HTTP/1.0 200 OK\r\nvia:\r\n\r\nrest",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: 5\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ];
    let samples: Vec<_> = samples.iter().map(|text| text.as_bytes().to_vec()).collect();
    run("http1_response_head", &samples, ROUNDS, fuzz::response_head);
}

#[test]
fn chunked_bodies() {
    let behind_head = |bytes: Vec<u8>| {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        end.map(|end| bytes[end + 4..].to_vec()).filter(|body| !body.is_empty())
    };
    let samples: Vec<_> = heads().into_iter().filter_map(behind_head).collect();
    run("chunked", &samples, ROUNDS, fuzz::chunked);
}

#[test]
fn proxy_headers() {
    let mut samples = vec![b"PROXY UNKNOWN x\r\n".to_vec()];
    for (source, destination) in [("192.0.2.1:1", "198.51.100.7:443"), ("[::1]:1", "[::2]:2")] {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let (mut line, mut binary) = (Vec::new(), Vec::new());
        weir_net::proxy_protocol::append_v1(source, destination, &mut line);
        weir_net::proxy_protocol::append_v2(source, destination, &mut binary);
        samples.extend([line, binary.clone()]);
        // The same with a field behind the addresses.
        binary[15] += 5;
        binary.extend(b"\x04\0\x02xy");
        samples.push(binary);
    }
    run("proxy_protocol", &samples, ROUNDS, checks::proxy_protocol);
}

#[test]
fn client_hellos() {
    let path = root().join("userspace/net/src/client_hello/openssl.hex");
    let digits = fs::read_to_string(path).unwrap().replace('\n', "");
    let byte = |place| u8::from_str_radix(&digits[place..place + 2], 16).unwrap();
    let hello = (0..digits.len()).step_by(2).map(byte).collect();
    run("client_hello", &[hello], ROUNDS / 10, checks::client_hello);
}

#[test]
fn configurations() {
    let files = fs::read_dir(root().join("tests/data/config")).unwrap();
    let mut paths: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    let input = |text: String| text.split("\n----\n").next().unwrap().as_bytes().to_vec();
    let samples: Vec<_> = paths.iter().map(|path| input(text(path))).collect();
    run("config", &samples, ROUNDS_CONFIG, checks::config);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The requests of `tests/data/framing`.
fn heads() -> Vec<Vec<u8>> {
    framing::cases().into_iter().map(|case| case.bytes).collect()
}

fn run(name: &str, samples: &[Vec<u8>], rounds: usize, check: impl Fn(&[u8])) {
    if let Some(corpus) = std::env::var_os("WEIR_FUZZ_CORPUS") {
        let folder = root().join(corpus).join(name);
        fs::create_dir_all(&folder).unwrap();
        for (number, sample) in samples.iter().enumerate() {
            fs::write(folder.join(format!("sample-{number}")), sample).unwrap();
        }
    }
    samples.iter().for_each(|sample| check(sample));
    let mut random = Random(0x5EED);
    for _ in 0..rounds {
        let mut input = samples[random.below(samples.len())].clone();
        input.truncate(SIZE_MAX);
        for _ in 0..=random.below(4) {
            mutate(&mut input, samples, &mut random);
        }
        check(&input);
    }
}

fn mutate(input: &mut Vec<u8>, samples: &[Vec<u8>], random: &mut Random) {
    let place = random.below(input.len() + 1);
    match random.below(7) {
        0 if place < input.len() => input[place] = random.byte(),
        1 if place < input.len() => input[place] ^= 1 << random.below(8),
        2 => {
            let end = (place + random.below(8)).min(input.len());
            input.drain(place..end);
        }
        3 => input.insert(place, random.byte()),
        4 => {
            let word = WORDS[random.below(WORDS.len())];
            input.splice(place..place, word.iter().copied());
        }
        5 => {
            // The end of another sample in the place of this one's.
            let other = &samples[random.below(samples.len())];
            input.truncate(place);
            input.extend(&other[random.below(other.len() + 1)..]);
        }
        _ => {
            let end = (place + random.below(40)).min(input.len());
            let piece = input[place..end].to_vec();
            input.splice(place..place, piece);
        }
    }
    input.truncate(SIZE_MAX);
}

/// Xorshift: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}
