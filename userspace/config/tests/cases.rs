//! Every case of `tests/data/config`: a text, `----`, and the mistakes it must be refused with, or
//! `ok`. A seeded fuzz over the valid ones: any text is read or refused at a place inside it.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use weir_config::{Environment, parse};

struct Fixed;

impl Environment for Fixed {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "PORT").then(|| "9000".to_owned())
    }

    fn file(&self, path: &str) -> io::Result<String> {
        match path {
            "/port" => Ok("9001\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

fn cases() -> BTreeMap<String, (String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/config");
    let mut cases = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once("\n----\n").unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        cases.insert(name, (format!("{input}\n"), expected.trim().to_owned()));
    }
    cases
}

fn outcome(text: &str) -> String {
    match parse(text, &Fixed) {
        Ok(_) => "ok".to_owned(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn every_case_is_read_or_refused_as_it_says() {
    let cases = cases();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let mut wrong = String::new();
    for (name, (input, expected)) in &cases {
        let outcome = outcome(input);
        if outcome != *expected {
            wrong += &format!("{name}:\n  expected:\n{expected}\n  got:\n{outcome}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_damaged_text_is_refused_at_a_place_inside_it() {
    let valid: Vec<_> = cases().into_values().filter(|(_, expected)| expected == "ok").collect();
    let mut state = 0x5EED_u64;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    for _ in 0..4_000 {
        let mut text: Vec<char> = valid[random(valid.len())].0.chars().collect();
        for _ in 0..=random(4) {
            if text.is_empty() {
                break;
            }
            let at = random(text.len());
            match random(4) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, ['\t', ':', '-', '{', '[', '"', '\u{fffd}', '&'][random(8)]),
                2 => text[at] = char::from(u8::try_from(32 + random(95)).unwrap()),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(mistakes) = parse(&text, &Fixed) {
            let lines = text.lines().count().max(1);
            for mistake in mistakes.iter() {
                assert!((1..=lines + 1).contains(&mistake.line), "{mistake} in {text:?}");
                assert!(mistake.column >= 1, "{mistake} in {text:?}");
            }
        }
    }
}
