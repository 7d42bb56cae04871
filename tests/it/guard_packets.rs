//! The flood guard's answers, byte by byte, by `BPF_PROG_TEST_RUN`.

use std::net::TcpListener;
use std::time::{Instant, SystemTime};

use weir_abi::checksum::Sum;
use weir_abi::guard::challenge;
use weir_abi::wire;
use weir_l4::{Kernel, Wanted};
use weir_model::{Guard, GuardKey, RuleMode, SynGuard};
use weir_tests::need;
use weir_tests::packet;
use weir_tests::world::{Bench, inside};

use crate::packet::{loaded, run, wanted};

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const OLD_KEY: [u64; 2] = [1, 2];
const LINUX: &str = "020405b40402080a00000007000000000103030a";
const ETHERNETS: [(&str, usize); 3] =
    [("eth", 14), ("eth > vlan 7", 18), ("eth > vlan 8 outer > vlan 7", 22)];
/// A VIP that is forwarded and a listener of this host, by family, with a client.
const FAMILIES: [(&str, &str, &str); 2] = [
    ("ipv4 198.18.0.1 > ", "203.0.113.1", "10.9.1.1"),
    ("ipv6 2001:db8:1::1 > ", "2001:db8:f::1", "fd09::ffff"),
];

fn guarded(guard: &Guard) -> Wanted {
    let lines = [
        "203.0.113.1:80/tcp ipip 10.9.0.1:80",
        "203.0.113.1:80/udp ipip 10.9.0.1:80",
        "[2001:db8:f::1]:80/tcp ipip [fd09::1]:80",
        "listener 10.9.1.1:80",
        "listener [fd09::ffff]:80",
    ];
    Wanted { guard: guard.clone(), ..wanted(&lines.map(str::to_owned)) }
}

/// Puts a guard in force, and lets it look at rates.
fn put(kernel: &Kernel, guard: &Guard) {
    let now = Instant::now();
    kernel.balance(&guarded(guard), now).unwrap();
    let _ = kernel.tick_guard(now, SystemTime::now());
}

fn always() -> Guard {
    let keys = vec![GuardKey(KEY), GuardKey(OLD_KEY)];
    Guard { syn: SynGuard::Always, keys, ..Guard::default() }
}

/// Runs `test` with the program in a namespace where sockets listen.
fn on_bench(test: impl FnOnce(&Kernel) + Send) {
    if !need::root() {
        return;
    }
    let bench = Bench::new().unwrap();
    let run = || {
        let _listening =
            ["10.9.1.1:80", "[fd09::ffff]:80"].map(|own| TcpListener::bind(own).unwrap());
        test(&loaded(&[], &[]));
    };
    inside(bench.name(), run).unwrap();
}

fn at<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
    packet[at..at + N].try_into().unwrap()
}

fn word(packet: &[u8], place: usize) -> u32 {
    u32::from_be_bytes(at(packet, place))
}

/// The answer goes back to where the packet came from, and its checksums are right; its TCP header.
fn answer(packet: &[u8], out: &[u8], network: usize, what: &str) -> Vec<u8> {
    assert_eq!(at::<6>(out, 0), at::<6>(packet, 6), "{what}");
    assert_eq!(at::<6>(out, 6), at::<6>(packet, 0), "{what}");
    assert_eq!(out[12..network], packet[12..network], "{what}");
    let (asked, told) = (wire_flow(packet), wire_flow(out));
    assert_eq!((told.source, told.destination), (asked.destination, asked.source), "{what}");
    assert_eq!(
        (told.source_port, told.destination_port),
        (asked.destination_port, asked.source_port)
    );
    let ip = &out[network..usize::from(told.transport)];
    let tcp = out[usize::from(told.transport)..].to_vec();
    let addresses = if ip.len() == 20 {
        assert_eq!(sum(Sum::default(), ip).checksum(), 0, "{what}: IP checksum");
        assert_eq!(usize::from(u16::from_be_bytes(at(ip, 2))), ip.len() + tcp.len(), "{what}");
        &ip[12..20]
    } else {
        assert_eq!(usize::from(u16::from_be_bytes(at(ip, 4))), tcp.len(), "{what}");
        &ip[8..40]
    };
    let all = sum(sum(Sum::default(), addresses), &tcp).add(6).add(tcp.len() as u32);
    assert_eq!(all.checksum(), 0, "{what}: TCP checksum");
    assert_eq!(usize::from(tcp[12] >> 4) * 4, tcp.len(), "{what}: nothing behind the header");
    tcp
}

fn sum(sum: Sum, bytes: &[u8]) -> Sum {
    let word = |chunk: &[u8]| u32::from(u16::from_be_bytes([chunk[0], chunk[1]]));
    bytes.chunks_exact(2).fold(sum, |sum, chunk| sum.add(word(chunk)))
}

struct Bytes<'a>(&'a [u8]);

fn wire_flow(packet: &[u8]) -> weir_abi::Flow {
    wire::flow(&Bytes(packet)).unwrap()
}

impl weir_abi::Packet for Bytes<'_> {
    type Span<const N: usize> = [u8; N];

    fn span<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.0.len()
    }
}

#[test]
fn a_challenge_is_answered_by_who_gets_it() {
    on_bench(|kernel| {
        put(kernel, &always());
        let step = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 8)
            as u32;
        for (ethernet, network) in ETHERNETS {
            for (at, (client, vip, _)) in (1..).zip(FAMILIES) {
                // Another source each time: nobody has proven anything.
                let client = client.replace(".0.1 ", &format!(".{network}.{at} "));
                let client = client.replace("1::1 ", &format!("{network}{at}::1 "));
                let packet = |tcp: &str| {
                    packet::build(&format!("{ethernet} > {client}{vip} > tcp 1024 > 80 {tcp}"))
                        .unwrap()
                };
                for more in ["", " options 020405b4", &format!(" options {LINUX}")] {
                    let what = format!("{ethernet} {vip}{more}");
                    let syn = packet(&format!("flags 02 seq 77 ack 0{more}"));
                    let (verdict, reason, out) = run(kernel, &syn);
                    assert_eq!((&*verdict, &*reason), ("reply", "challenge"), "{what}");
                    let tcp = answer(&syn, &out, network, &what);
                    assert_eq!((tcp[13], tcp.len()), (0x10, 20), "{what}: a bare ACK");
                    let flow = wire_flow(&syn);
                    let expected = [step, step + 1].map(|step| challenge(&flow, KEY, step));
                    assert!(expected.contains(&word(&tcp, 8)), "{what}");
                }
                // Neither a wrong number nor any other packet proves anything.
                let flow = wire_flow(&packet("flags 02"));
                let reset = |number: u32| packet(&format!("flags 04 seq {number} ack 0"));
                let wrong = challenge(&flow, KEY, step - 2);
                assert_eq!(run(kernel, &reset(wrong)).0, "send");
                assert_eq!(run(kernel, &packet("flags 02 ack 0")).1, "challenge");
                // The key before is still believed.
                let right = challenge(&flow, OLD_KEY, step);
                assert_eq!(run(kernel, &reset(right)).1, "proof", "{ethernet} {vip}");
                let (verdict, reason, _) =
                    run(kernel, &packet(&format!("flags 02 ack 0 options {LINUX}")));
                assert_eq!((&*verdict, &*reason), ("send", "ipip"));
            }
        }
    });
}

/// What a client offers, whether the answer has times, and what its last six bits are to say.
const OFFERS: [(&str, Option<u32>); 9] = [
    (LINUX, Some(0x1a)),
    // Without SACK, without scale, scale alone.
    ("020405b40101080a00000007000000000103030a", Some(0x0a)),
    ("020405b40402080a0000000700000000", Some(0x1f)),
    ("020405b40103030801010402", None),
    // As macOS has them.
    ("020405b4010303060101080a000000070000000004020000", Some(0x16)),
    // A scale that is too large counts as 14; unknown options are skipped.
    ("020405b4fe04f9890402080a0000000700000000010303ff", Some(0x1e)),
    ("", None),
    ("020405b4", None),
    // Options that end in the middle of one.
    ("020405b40402080a", None),
];

#[test]
fn a_cookie_offers_what_the_client_did() {
    on_bench(|kernel| {
        put(kernel, &always());
        for (ethernet, network) in ETHERNETS {
            for (client, _, own) in FAMILIES {
                for (offer, times) in OFFERS {
                    for payload in ["", " > bytes 30"] {
                        let options = if offer.is_empty() {
                            String::new()
                        } else {
                            format!("options {offer}")
                        };
                        let what = format!("{ethernet} {own} {options}{payload}");
                        let syn = format!(
                            "{ethernet} > {client}{own} > tcp 1024 > 80 flags 02 seq 77 ack 0 {options}{payload}"
                        );
                        let syn = packet::build(&syn).unwrap();
                        let (verdict, reason, out) = run(kernel, &syn);
                        assert_eq!((&*verdict, &*reason), ("reply", "syn_cookie"), "{what}");
                        let tcp = answer(&syn, &out, network, &what);
                        assert_eq!((tcp[13], word(&tcp, 8)), (0x12, 78), "{what}: SYN and ACK");
                        let segment = if out[network] >> 4 == 4 { 1460 } else { 1440 };
                        assert_eq!(word(&tcp, 20), 0x0204_0000 | segment, "{what}");
                        let Some(bits) = times else {
                            assert_eq!(tcp.len(), 24, "{what}");
                            continue;
                        };
                        assert_eq!(
                            (tcp.len(), word(&tcp, 32)),
                            (40, 7),
                            "{what}: the client's time"
                        );
                        assert_eq!(word(&tcp, 28) & 63, bits, "{what}");
                        let has_sack = bits & 0x10 != 0;
                        assert_eq!(tcp[24..26] == [4, 2], has_sack, "{what}: SACK");
                        assert_eq!(tcp[36..39] == [1, 3, 3], bits & 15 != 15, "{what}: scale");
                    }
                }
            }
        }
    });
}

#[test]
fn what_is_no_honest_syn_is_dropped() {
    on_bench(|kernel| {
        put(kernel, &always());
        for (what, reason) in [
            ("eth > ipv4 198.18.0.1 > 10.9.1.1 options 1 > tcp 1024 > 80 flags 02", "odd_syn"),
            (
                "eth > ipv6 2001:db8:1::1 > fd09::ffff > ext dest > tcp 1024 > 80 flags 02",
                "odd_syn",
            ),
            ("eth > ipv4 198.18.0.1 > 10.9.1.1 > tcp 1024 > 80 flags 03", "odd_syn"),
            ("eth > ipv4 198.18.0.1 > 10.9.1.1 > tcp 1024 > 80 flags 06", "odd_syn"),
            ("eth > ipv4 198.18.0.1 > 203.0.113.1 options 1 > tcp 1024 > 80 flags 02", "odd_syn"),
            ("eth > ipv4 198.18.0.1 > 10.9.1.1 > tcp 1024 > 80 flags 10", "bad_ack"),
            ("eth > ipv4 198.18.0.1 > 10.9.1.1 > tcp 1024 > 80 flags 12", "bad_ack"),
            ("eth > ipv6 2001:db8:1::1 > fd09::ffff > tcp 1024 > 80 flags 18 > bytes 9", "bad_ack"),
        ] {
            let (verdict, why, _) = run(kernel, &packet::build(what).unwrap());
            assert_eq!((&*verdict, &*why), ("drop", reason), "{what}");
        }
        // A header that is longer than the packet, or shorter than a header can be.
        let syn = packet::build(&format!(
            "eth > ipv4 198.18.0.1 > 10.9.1.1 > tcp 1024 > 80 flags 02 options {LINUX}"
        ));
        let syn = syn.unwrap();
        for size in [0x00, 0x40, 0xb0, 0xf0] {
            let mut odd = syn.clone();
            odd[46] = size;
            let (verdict, why, _) = run(kernel, &odd);
            assert_eq!((&*verdict, &*why), ("drop", "odd_syn"), "{size:#x}");
        }
    });
}

#[test]
fn rules_drop_what_they_name_and_nothing_else() {
    const ODD_FLAGS: &str = "eth > ipv4 198.18.0.1 > 10.9.9.9 > tcp 1 > 2 flags 29";
    const REFLECTED: &str = "eth > ipv4 198.18.0.1 > 203.0.113.1 > udp 11211 > 80";
    const ASKED: &str = "eth > ipv4 198.18.0.1 > 10.9.9.9 > udp 53 > 40000";
    const FRAGMENT: &str = "eth > ipv4 198.18.0.1 > 10.9.9.9 fragment 8 id 7 > udp 1 > 2";
    on_bench(|kernel| {
        for (mode, verdicts) in [
            (RuleMode::Off, ["clean", "ipip", "clean", "clean"]),
            (RuleMode::DryRun, ["clean", "ipip", "clean", "clean"]),
            (RuleMode::Drop, ["tcp_flags", "udp_reflection", "clean", "fragment_flood"]),
        ] {
            let guard = Guard {
                tcp_flags: mode,
                udp_reflection: mode,
                fragments: mode,
                fragment_rate: 1,
                ..Guard::default()
            };
            put(kernel, &guard);
            for (text, expected) in
                [ODD_FLAGS, REFLECTED, ASKED, FRAGMENT].into_iter().zip(verdicts)
            {
                let packet = packet::build(text).unwrap();
                // The first fragments of a second pass.
                let reasons: Vec<_> = (0..4).map(|_| run(kernel, &packet).1).collect();
                assert_eq!(reasons[3], expected, "{mode:?} {text}");
            }
            let tried = kernel.guard_stats(Instant::now()).tried;
            let names: Vec<_> = tried.iter().map(|(name, _)| *name).collect();
            let expected: &[&str] = match mode {
                RuleMode::Off => &[],
                _ => &["tcp_flags", "udp_reflection", "fragment_flood"],
            };
            assert_eq!(names, expected, "{mode:?}");
        }
    });
}

#[test]
fn limits_count_sources_and_networks() {
    on_bench(|kernel| {
        let guard = Guard { syn_rates: [20, 60, 0], ..always() };
        put(kernel, &guard);
        let syn = |source: &str| {
            let text = format!("eth > ipv4 {source} > 203.0.113.1 > tcp 1024 > 80 flags 02");
            run(kernel, &packet::build(&text).unwrap()).1
        };
        let count = |source: &dyn Fn(u32) -> String, of: u32| {
            (0..of).filter(|at| syn(&source(*at)) == "syn_limit").count()
        };
        // A second may end in between, and a source is counted anew when it becomes heavy.
        assert!(count(&|_| "198.18.7.1".to_owned(), 200) >= 100);
        let near = count(&|at| format!("198.18.8.{}", at % 250), 500);
        assert!(near >= 200, "{near}");
        assert_eq!(count(&|at| format!("198.{}.{}.1", at / 200 + 30, at % 200), 600), 0);
        // Who is allowed is not counted.
        kernel.allow(&["198.18.7.1".parse().unwrap()]).unwrap();
        put(kernel, &guard);
        assert_eq!(count(&|_| "198.18.7.1".to_owned(), 100), 0);
    });
}

/// Of a VIP go on no more SYNs than its cap, whoever they are of.
#[test]
fn a_vip_gets_no_more_than_its_cap() {
    on_bench(|kernel| {
        let guard = Guard { vip_syn_rate: 20, ..always() };
        put(kernel, &guard);
        let packet = |flags: &str| {
            let text = format!("eth > ipv4 198.18.0.1 > 203.0.113.1 > tcp 1024 > 80 flags {flags}");
            packet::build(&text).unwrap()
        };
        let step = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 8;
        let number = challenge(&wire_flow(&packet("02")), KEY, step as u32);
        assert_eq!(run(kernel, &packet(&format!("04 seq {number} ack 0"))).1, "proof");
        let reasons: Vec<_> = (0..200).map(|_| run(kernel, &packet("02")).1).collect();
        let count = |what: &str| reasons.iter().filter(|reason| *reason == what).count();
        // A second may end in between.
        assert!((1..=80).contains(&count("ipip")), "{reasons:?}");
        assert_eq!(count("ipip") + count("vip_limit"), 200, "{reasons:?}");
        // What exists goes on.
        assert_eq!(run(kernel, &packet("10")).1, "ipip");
    });
}

/// What the options of a SYN say: scale, SACK, the client's time; read as RFC 9293 and 7323 have it.
fn read_options(mut options: &[u8]) -> (u32, bool, Option<u32>) {
    let (mut scale, mut has_sack, mut time) = (15, false, None);
    while let [kind, rest @ ..] = options {
        match (kind, rest) {
            (0, _) => break,
            (1, _) => options = rest,
            (_, [length, ..]) if (2..=options.len()).contains(&usize::from(*length)) => {
                let (option, behind) = options.split_at((*length).into());
                match (option[0], option.len()) {
                    (3, 3) => scale = u32::from(option[2]).min(14),
                    (4, 2) => has_sack = true,
                    (8, 10) => time = Some(word(option, 2)),
                    _ => {}
                }
                options = behind;
            }
            _ => break,
        }
    }
    (scale, has_sack, time)
}

/// Any bytes may stand where options do.
#[test]
fn random_options_are_read_as_a_plain_reader_does() {
    on_bench(|kernel| {
        put(kernel, &always());
        let mut seed = 7u64;
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut with_times, mut plain) = (0, 0);
        for round in 0..20_000 {
            let size = (next(11) * 4) as usize;
            let mut options = Vec::new();
            while options.len() < size {
                match next(8) {
                    0 => options.push(next(256) as u8),
                    1 => options.push(1),
                    2 => options.extend([2, 4, 5, 180]),
                    3 => options.extend([3, 3, next(20) as u8]),
                    4 => options.extend([4, 2]),
                    5 => options.extend([next(256) as u8, next(12) as u8, next(256) as u8]),
                    _ => options.extend([8, 10, 0, 0, 0, next(256) as u8, 0, 0, 0, 0]),
                }
            }
            options.truncate(size);
            let digits: String = options.iter().map(|byte| format!("{byte:02x}")).collect();
            let more = if digits.is_empty() { String::new() } else { format!("options {digits}") };
            let text = format!(
                "eth > ipv4 198.18.0.1 > 10.9.1.1 > tcp 1024 > 80 flags 02 seq 5 ack 0 {more}"
            );
            let syn = packet::build(&text).unwrap();
            let (_, out) = kernel.test_run(&syn).unwrap();
            let what = format!("round {round}: {digits}");
            let tcp = answer(&syn, &out, 14, &what);
            let (scale, has_sack, time) = read_options(&options);
            match time {
                None => {
                    assert_eq!(tcp.len(), 24, "{what}");
                    plain += 1;
                }
                Some(time) => {
                    let bits = scale | u32::from(has_sack) << 4;
                    assert_eq!((word(&tcp, 32), word(&tcp, 28) & 63), (time, bits), "{what}");
                    with_times += 1;
                }
            }
        }
        assert!(with_times > 5_000 && plain > 3_000, "{with_times} {plain}");
    });
}
