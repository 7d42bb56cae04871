//! Every case of `tests/data/framing`: refused before it reaches a backend, or passed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::Client;

pub(crate) struct Case {
    name: String,
    expect: String,
    pub(crate) bytes: Vec<u8>,
}

#[test]
fn every_case_at_once_and_byte_by_byte() {
    let cases = cases();
    assert!(cases.len() >= 220, "{} cases", cases.len());
    let backend = Backend::start("b");
    let weir = Balancer::start(&balancer::simple(&[backend.address]));
    let address = weir.address("web");
    // One after the other where a case counts requests at the backend: only refused ones do, and
    // passed ones must not run beside them.
    let (pass, refused): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.expect == "pass");
    let wrong = Mutex::new(Vec::new());
    let check = |case: &Case, step: usize| {
        let mut client = Client::connect(address);
        for piece in case.bytes.chunks(step) {
            client.send(piece);
        }
        let _ = client.stream().flush();
        let mut status = client.try_response(false).map(|response| response.status);
        if status == Ok(100) {
            status = client.try_response(false).map(|response| response.status);
        }
        let as_expected = match (&status, case.expect.as_str()) {
            (Ok(200..=299), "pass") => true,
            (Ok(status), expected) => {
                *status == expected.parse().unwrap_or(0) && client.is_closed()
            }
            (Err(_), _) => false,
        };
        if !as_expected {
            let step = if step == 1 { "byte by byte" } else { "at once" };
            wrong
                .lock()
                .unwrap()
                .push(format!("{} {step}: {}, got {status:?}", case.name, case.expect));
        }
    };
    let run = |cases: &[&Case]| {
        let threads = 8;
        std::thread::scope(|scope| {
            for share in 0..threads {
                let check = &check;
                scope.spawn(move || {
                    for case in cases.iter().skip(share).step_by(threads) {
                        check(case, usize::MAX);
                        check(case, 1);
                    }
                });
            }
        });
    };
    run(&refused);
    assert_eq!(wrong.lock().unwrap().join("\n"), "");
    assert_eq!(backend.requests(), 0, "a refused request reached the backend in whole");
    run(&pass);
    assert_eq!(wrong.lock().unwrap().join("\n"), "");
    let status = weir.status();
    let total = status["requests"]["total"].as_u64().unwrap();
    assert_eq!(total, 2 * cases.len() as u64, "every request is counted: {status:#}");
}

pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/framing");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .map(|path| read(&path))
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn read(path: &Path) -> Case {
    let text = fs::read_to_string(path).unwrap();
    let (head, request) = text.split_once("---\n").unwrap();
    let expect = head.lines().find_map(|line| line.strip_prefix("expect ")).unwrap().to_owned();
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    Case { name, expect, bytes: unescape(&request.replace('\n', "")) }
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        let (kind, after) = escape.split_at(1);
        rest = after;
        match kind {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(0),
            "x" => {
                let (digits, after) = after.split_at(2);
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = after;
            }
            "*" => {
                let (count, after) = after.split_once('{').unwrap();
                let (what, after) = after.split_once('}').unwrap();
                bytes.extend(unescape(what).repeat(count.parse().unwrap()));
                rest = after;
            }
            other => bytes.extend(other.bytes()),
        }
    }
    bytes.extend(rest.bytes());
    bytes
}
