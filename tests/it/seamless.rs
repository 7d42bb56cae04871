//! What changes while Weir serves is not noticed: `wrk` and `h2load` for twenty seconds, and not one
//! request fails.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_tests::backend::Backend;
use weir_tests::balancer::Balancer;
use weir_tests::need;
use weir_tests::tls::{Authority, Files};

const SECONDS: u64 = 20;
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(500);

/// The load, and the balancer that is under it.
struct Scene {
    weir: Balancer,
    backends: [Backend; 2],
    authority: Authority,
    leaf: Files,
}

impl Scene {
    fn new() -> Option<Self> {
        if !(need::tool("wrk") && need::tool("h2load")) {
            return None;
        }
        let authority = Authority::new();
        let backends = [Backend::start("a"), Backend::start("b")];
        let leaf = authority.leaf("leaf", &["a.example"]);
        let weir = Balancer::start(&sections(&leaf, &backends));
        Some(Self { weir, backends, authority, leaf })
    }

    /// Has `change` take place again and again under load; no request may fail.
    fn during(&self, change: impl Fn(&Self, usize)) {
        let (plain, secure) = (self.weir.address("web"), self.weir.address("secure"));
        let clients = [
            wrk(&["-c", "8"], "http", plain),
            wrk(&["-c", "4", "-H", "Connection: close"], "http", plain),
            wrk(&["-c", "4"], "https", secure),
            h2load("http", plain),
            h2load("https", secure),
        ];
        let end = Instant::now() + Duration::from_secs(SECONDS - 1);
        for number in 0.. {
            std::thread::sleep(PAUSE);
            if Instant::now() > end {
                break;
            }
            change(self, number);
        }
        clients.into_iter().for_each(assert_no_error);
    }
}

fn sections(leaf: &Files, backends: &[Backend]) -> String {
    let targets: Vec<_> =
        backends.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
    // Connections of HTTP/2 that are busy are told to go after half of it; `h2load` calls a request that
    // it then cannot send any more failed, and never connects again.
    format!(
        "drain-timeout: 60s\n\
         listeners:\n\
         - {{ name: web, address: \"127.0.0.1:0\", protocols: [http1, http2] }}\n\
         - {{ name: secure, address: \"127.0.0.2:0\", protocols: [http1, http2], \
         tls: {{ certificates: [{leaf}] }} }}\n\
         routes: [{{ name: all, service: s }}]\n\
         services: [{{ name: s, upstream: u }}]\n\
         upstreams: [{{ name: u, targets: [{}] }}]\n",
        targets.join(", ")
    )
}

fn wrk(arguments: &[&str], scheme: &str, address: SocketAddr) -> Child {
    let seconds = SECONDS.to_string();
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-d", &seconds]).args(arguments);
    spawn(command.arg(format!("{scheme}://{address}/")))
}

fn h2load(scheme: &str, address: SocketAddr) -> Child {
    let seconds = SECONDS.to_string();
    let mut command = Command::new("h2load");
    spawn(
        command.args(["-c", "4", "-m", "8", "-D", &seconds]).arg(format!("{scheme}://{address}/")),
    )
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn assert_no_error(client: Child) {
    let output = client.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    let is_bad = ["Non-2xx", "Socket errors"].iter().any(|text| report.contains(text));
    // `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`
    let counts = report.lines().find(|line| line.starts_with("requests: "));
    let is_good = counts.is_none_or(|counts| counts.contains(" 0 failed, 0 errored, 0 timeout"));
    assert!(!is_bad && is_good, "{report}");
}

#[test]
fn reloads_fail_no_request() {
    let Some(scene) = Scene::new() else { return };
    scene.during(|scene, _| drop(scene.weir.ok(&["reload"])));
}

#[test]
fn other_certificates_fail_no_request() {
    let Some(scene) = Scene::new() else { return };
    scene.during(|scene, _| drop(scene.authority.leaf("leaf", &["a.example"])));
}

#[test]
fn upgrades_fail_no_request() {
    let Some(scene) = Scene::new() else { return };
    scene.during(|scene, _| drop(scene.weir.ok(&["upgrade"])));
    scene.weir.wait_for_one_process();
}

#[test]
fn targets_that_come_and_go_fail_no_request() {
    let Some(scene) = Scene::new() else { return };
    scene.during(|scene, number| {
        let left = [&scene.backends[..1], &scene.backends[1..], &scene.backends[..]][number % 3];
        scene.weir.write(&sections(&scene.leaf, left));
        scene.weir.ok(&["reload"]);
    });
}
