//! Every case of `tests/data/http2`: what HTTP/2 says of frames that break its rules, or only seem to.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::frames::{FLAGS, Frames, KINDS, MAGIC, field, frame, head};

struct Case {
    name: String,
    /// Any of these will do.
    expect: Vec<String>,
    bytes: Vec<u8>,
}

#[test]
fn every_case() {
    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let backend = Backend::start("b");
    let listener = ", protocols: [http2], limits: { header-size: 4KiB }";
    let weir = Balancer::start(&balancer::with(&[backend.address], listener, ""));
    let address = weir.address("web");
    let wrong = Mutex::new(Vec::new());
    let threads = 8;
    std::thread::scope(|scope| {
        for share in 0..threads {
            let (cases, wrong) = (&cases, &wrong);
            scope.spawn(move || {
                for case in cases.iter().skip(share).step_by(threads) {
                    let mut frames = Frames::connect(address);
                    frames.send(&case.bytes);
                    if let Err(seen) = check(&mut frames, &case.expect) {
                        let Case { name, expect, .. } = case;
                        wrong.lock().unwrap().push(format!("{name}: {expect:?}, got {seen}"));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert_eq!(wrong.join("\n"), "", "{:#}", weir.status());
    assert!(Frames::open(address).is_alive());
}

/// RFC 9113 section 6.9.1. The only place for a request is taken, so that nothing of the next one is read
/// and its window stays as it is.
#[test]
fn what_exceeds_its_window_is_refused() {
    let backend = Backend::start("b");
    let sections =
        balancer::with(&[backend.address], ", protocols: [http2]", ", timeouts: { queue: 60s }")
            .replace("name: u,", "name: u, limits: { requests: 1 },");
    let weir = Balancer::start(&sections);
    let mut frames = Frames::open(weir.address("web"));
    frames.send(&frame("HEADERS", 5, 1, &head("GET", "/slow/60000")));
    weir.wait_until("the place is taken", |status| {
        status["upstreams"][0]["backends"][0]["open"] == 1
    });
    frames.send(&frame("HEADERS", 4, 3, &head("POST", "/")));
    // One more than fit into the 256 KiB of a stream.
    for _ in 0..17 {
        frames.send(&frame("DATA", 0, 3, &[b'a'; 16 * 1024]));
    }
    frames.wait_for("reset 3 FLOW_CONTROL_ERROR").unwrap();
    assert!(frames.is_alive());
}

/// Reads up to what is expected; then a connection is closed after `goaway`, and goes on otherwise.
fn check(frames: &mut Frames, expect: &[String]) -> Result<(), String> {
    if expect == ["alive"] {
        return if frames.is_alive() { Ok(()) } else { Err("the end".to_owned()) };
    }
    let mut seen = Vec::new();
    while let Some(frame) = frames.read() {
        let said = frame.meaning();
        let found = expect.contains(&said);
        seen.push(said);
        if found && frame.kind == 7 {
            while frames.read().is_some() {}
            return Ok(());
        }
        if found {
            let may_end = expect.iter().any(|expected| expected == "closed");
            return if may_end || frames.is_alive() {
                Ok(())
            } else {
                Err(format!("{seen:?}, then the end"))
            };
        }
    }
    if expect.iter().any(|expected| expected == "closed") {
        return Ok(());
    }
    Err(format!("{seen:?}, then the end"))
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/http2");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let cases = files.filter(|path| path.extension().is_some_and(|extension| extension == "case"));
    let mut cases: Vec<_> = cases.map(|path| read(&path)).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn read(path: &Path) -> Case {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let text = fs::read_to_string(path).unwrap();
    let (about, frames) = text.split_once("---\n").unwrap();
    let expect: Vec<_> =
        about.lines().filter_map(|line| line.strip_prefix("expect ")).map(str::to_owned).collect();
    assert!(!expect.is_empty(), "{name} expects nothing");
    let differs = about.lines().any(|line| line.starts_with("rfc "));
    let is_explained = about.lines().any(|line| line.starts_with("why "));
    assert_eq!(differs, is_explained, "{name}: what differs from the RFC has its reason");
    let bytes = frames.lines().flat_map(|line| bytes(&name, line)).collect();
    Case { name, expect, bytes }
}

/// One line of a case: `KIND+FLAG+FLAG STREAM PAYLOAD`, or a word for several frames.
fn bytes(name: &str, line: &str) -> Vec<u8> {
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else { return Vec::new() };
    match first {
        "magic" => return MAGIC.to_vec(),
        "open" => {
            let settings = frame("SETTINGS", 0, 0, &[]);
            return [MAGIC, &settings, &frame("SETTINGS", 1, 0, &[])].concat();
        }
        "bytes" => return words.flat_map(|word| payload(name, word)).collect(),
        _ => {}
    }
    let stream = words.next().unwrap().parse().unwrap();
    let mut names = first.split('+');
    let kind = names.next().unwrap();
    assert!(KINDS.contains(&kind) || kind == "UNKNOWN", "{name}: {kind}");
    let flag = |flag| FLAGS.iter().find(|(known, _)| *known == flag).expect("a flag").1;
    let flags = names.map(flag).fold(0, |flags, flag| flags | flag);
    let payload: Vec<_> = words.flat_map(|word| payload(name, word)).collect();
    frame(kind, flags, stream, &payload)
}

/// One word of a payload.
fn payload(name: &str, word: &str) -> Vec<u8> {
    let number = |text: &str| -> u32 { text.parse().unwrap_or_else(|_| panic!("{name}: {word}")) };
    if let Some(number_text) = word.strip_prefix("u32:") {
        return number(number_text).to_be_bytes().to_vec();
    }
    if let Some(number_text) = word.strip_prefix("u16:") {
        return number(number_text).to_be_bytes()[2..].to_vec();
    }
    if let Some(inner) = word.strip_prefix("h(").and_then(|rest| rest.strip_suffix(')')) {
        let (key, value) = inner.split_once('|').unwrap();
        return field(key, &value.replace('_', " "));
    }
    if let Some(text) = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return text.as_bytes().to_vec();
    }
    if let Some((count, what)) = word.split_once('*') {
        return payload(name, what).repeat(number(count) as usize);
    }
    match word {
        "@get" => head("GET", "/"),
        "@post" => head("POST", "/"),
        "@slow" => head("GET", "/slow/2000"),
        hex => vec![u8::from_str_radix(hex, 16).unwrap_or_else(|_| panic!("{name}: {word}"))],
    }
}
