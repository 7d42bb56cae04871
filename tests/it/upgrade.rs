//! `weir upgrade`: a new process serves, the old one answers what is open, and no client notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use weir_tests::backend::Backend;
use weir_tests::balancer::{self, Balancer};
use weir_tests::client::{Client, PATIENCE};
use weir_tests::need;

use crate::bans_survive::BpfFolder;
use crate::get;
use crate::site::Site;

/// Clients that ask until they are told to end; each fails the test if it is not answered.
struct Load {
    end: AtomicBool,
    served: AtomicU64,
}

impl Load {
    /// Runs `work` under load: clients that keep their connections, and some that do not.
    fn during(address: SocketAddr, work: impl FnOnce(&Self)) {
        let load = Self { end: AtomicBool::new(false), served: AtomicU64::new(0) };
        std::thread::scope(|scope| {
            for keep in [true, true, true, false, false] {
                let load = &load;
                scope.spawn(move || load.run(address, keep));
            }
            // Also where `work` panics: the scope waits for the clients.
            let _end = End(&load.end);
            work(&load);
        });
    }

    fn run(&self, address: SocketAddr, keep: bool) {
        let mut client = Client::connect(address);
        while !self.end.load(Ordering::Relaxed) {
            let response = client.try_get("/").unwrap_or_else(|error| {
                self.end.store(true, Ordering::Relaxed);
                panic!("a request failed: {error}")
            });
            assert_eq!(response.status, 200);
            self.served.fetch_add(1, Ordering::Relaxed);
            if !keep || response.header("connection") == Some("close") {
                client = Client::connect(address);
            }
        }
    }

    /// Waits until so many more requests were served.
    fn wait_for(&self, more: u64) {
        let target = self.served.load(Ordering::Relaxed) + more;
        while self.served.load(Ordering::Relaxed) < target && !self.end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn wrk(address: SocketAddr, arguments: &[&str]) -> Child {
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-d", "8s"]).args(arguments).arg(format!("http://{address}/"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

fn assert_no_error(wrk: Child) {
    let output = wrk.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
}

fn serving(weir: &Balancer) -> i64 {
    weir.status()["pid"].as_i64().unwrap()
}

#[test]
fn five_upgrades_under_load_fail_no_request() {
    if !need::tool("wrk") {
        return;
    }
    let backend = Backend::start("a");
    let weir = Balancer::start(&balancer::simple(&[backend.address]));
    let address = weir.address("web");
    let kept = wrk(address, &["-c", "16"]);
    let closed = wrk(address, &["-c", "4", "-H", "Connection: close"]);
    let mut pids = vec![serving(&weir)];
    Load::during(address, |load| {
        for _ in 0..5 {
            load.wait_for(200);
            let told = weir.ok(&["upgrade"]);
            let pid = serving(&weir);
            assert!(told.starts_with(&format!("process {pid} serves after ")), "{told}");
            assert!(!pids.contains(&pid));
            pids.push(pid);
        }
        load.wait_for(200);
        assert_no_error(kept);
        assert_no_error(closed);
    });
    let left = weir.wait_for_one_process();
    assert_eq!(i64::from(left.as_raw()), *pids.last().unwrap());
    weir.wait_until("the old one is gone", |status| status["draining_pid"].is_null());
    assert_eq!(weir.log().matches("every open request was answered").count(), 5);
}

#[test]
fn twenty_reloads_under_wrk_fail_no_request() {
    if !need::tool("wrk") {
        return;
    }
    let backend = Backend::start("a");
    let weir = Balancer::start(&balancer::simple(&[backend.address]));
    let kept = wrk(weir.address("web"), &["-c", "16"]);
    let closed = wrk(weir.address("web"), &["-c", "4", "-H", "Connection: close"]);
    for _ in 0..20 {
        weir.ok(&["reload"]);
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_no_error(kept);
    assert_no_error(closed);
}

#[test]
fn usr2_upgrades_to_another_number_of_reactors_and_other_listeners() {
    let backend = Backend::start("a");
    let simple = balancer::simple(&[backend.address]);
    let weir = Balancer::start(&format!("reactors: 3\n{simple}"));
    let address = weir.address("web");
    let more =
        simple.replace("listeners: [", "listeners: [{ name: more, address: \"127.0.0.2:0\" }, ");
    Load::during(address, |load| {
        for (reactors, sections) in [(1, &more), (4, &simple), (2, &more)] {
            let before = serving(&weir);
            weir.write(&format!("reactors: {reactors}\n{sections}"));
            let pid = i32::try_from(before).unwrap();
            kill(nix::unistd::Pid::from_raw(pid), Signal::SIGUSR2).unwrap();
            weir.wait_until("another process serves", |status| {
                status["pid"] != before && status["reactors"] == reactors
            });
            load.wait_for(200);
        }
        assert_eq!(get(weir.address("more"), "/").status, 200);
        assert_eq!(weir.address("web"), address);
    });
    weir.wait_for_one_process();
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let backend = Backend::start("a");
    let good = balancer::simple(&[backend.address]);
    let weir = Balancer::start(&good);
    let (address, pid) = (weir.address("web"), serving(&weir));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let in_use = good
        .replace("listeners: [", &format!("listeners: [{{ name: taken, address: \"{taken}\" }}, "));
    Load::during(address, |load| {
        for (sections, arguments, message) in [
            (
                &good,
                &["upgrade", "--binary", "/bin/false"][..],
                "ended before it served (exit status: 1)",
            ),
            (&good, &["upgrade", "--binary", "/nonexistent"], "start /nonexistent: No such file"),
            (&format!("{good}lisners: []\n"), &["upgrade"], "unknown key `lisners`"),
            (&in_use, &["upgrade"], "the port is in use"),
        ] {
            weir.write(sections);
            let output = weir.weir(arguments);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(stderr.contains(message), "{stderr}");
            assert_eq!((serving(&weir), weir.processes().len()), (pid, 1));
            load.wait_for(50);
        }
        weir.write(&good);
        weir.ok(&["upgrade"]);
        load.wait_for(50);
    });
    assert_ne!(serving(&weir), pid);
}

#[test]
fn what_is_open_goes_on_to_its_end() {
    let backend = Backend::start("a");
    let echo = websocket_backend();
    let sections = format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}, {{ name: ws, address: \"127.0.0.2:0\" }}]\n\
         routes: [{{ name: ws, hosts: [ws.example], service: ws }}, {{ name: all, service: s }}]\n\
         services: [{{ name: s, url: \"http://{}\" }}, {{ name: ws, url: \"http://{echo}\" }}]\n",
        backend.address,
    );
    let weir = Balancer::start(&sections);
    let first = serving(&weir);
    let mut slow = Client::connect(weir.address("web"));
    slow.send("GET /slow/3000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut socket = TcpStream::connect(weir.address("ws")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
        .write_all(
            b"GET / HTTP/1.1\r\nHost: ws.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut head = [0; 512];
    let count = socket.read(&mut head).unwrap();
    assert!(head[..count].starts_with(b"HTTP/1.1 101 "));
    let mut say = |bytes: &[u8; 4]| {
        socket.write_all(bytes).unwrap();
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, bytes);
    };
    say(b"ping");
    weir.ok(&["upgrade"]);
    let status = weir.status();
    assert_eq!((status["draining_pid"].as_i64(), weir.processes().len()), (Some(first), 2));
    for _ in 0..10 {
        say(b"pong");
        assert_eq!(get(weir.address("web"), "/").status, 200);
    }
    assert_eq!(slow.response().text(), "slow\n");
    say(b"last");
    assert_eq!(weir.processes().len(), 2);
    drop(socket);
    weir.wait_for_one_process();
    assert_eq!(get(weir.address("web"), "/").status, 200);
}

/// Says yes to every upgrade, then sends back what it gets.
fn websocket_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    head.push(byte[0]);
                }
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                              Upgrade: websocket\r\n\
                              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.write_all(answer.as_bytes()).unwrap();
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    stream.write_all(&bytes[..count]).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn bans_go_over_to_the_new_process_pinned_or_not() {
    if !need::root() {
        return;
    }
    let (folder, state) = (BpfFolder::mount(), tempfile::tempdir().unwrap());
    let pinned = format!("pin: {}", folder.pins().display());
    for pin in [pinned.as_str(), "pin: off"] {
        let sections = format!("{}state: {}\n", Site::with(pin), state.path().display());
        let site = Site::start_with(&sections);
        site.weir.ok(&["ban", "add", "198.18.1.2"]);
        for _ in 0..2 {
            site.weir.ok(&["upgrade"]);
            assert_eq!(site.weir.status()["kernel"]["bans"], 1);
            assert_eq!((site.get("client1"), site.get("client2")), (None, Some(200)));
        }
        // What the kernel refuses is found out last: then the old one takes its side back.
        let pid = serving(&site.weir);
        let bad = sections.replace("interfaces: [client1, client2]", "interfaces: [client1, none]");
        site.weir.write(&bad);
        let output = site.weir.weir(&["upgrade"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains("none"), "{stderr}");
        assert_eq!(serving(&site.weir), pid);
        assert_eq!((site.get("client1"), site.get("client2")), (None, Some(200)), "{pin}");
        site.weir.write(&sections);
        site.weir.ok(&["ban", "del", "198.18.1.2"]);
        assert_eq!(site.get("client1"), Some(200));
        site.weir.ok(&["stop", "--detach"]);
    }
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut text = [0; 256];
        let count = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    let backend = Backend::start("a");
    let weir = Balancer::start_notifying(&path, &balancer::simple(&[backend.address]));
    assert_eq!(told(), "READY=1");
    weir.ok(&["reload"]);
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told(), "READY=1");
    weir.ok(&["upgrade"]);
    assert!(told().starts_with("RELOADING=1"));
    let (own, main) = (told(), told());
    let expected = format!("MAINPID={}\nREADY=1", serving(&weir));
    assert!([&own, &main].contains(&&expected), "{own} {main}");
    weir.ok(&["stop"]);
    assert_eq!(told(), "STOPPING=1");
}

#[test]
fn a_stop_under_load_fails_no_request() {
    let backend = Backend::start("a");
    let mut weir = Balancer::start(&balancer::simple(&[backend.address]));
    let address = weir.address("web");
    let served = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                loop {
                    let response = client.try_get("/").expect("an answer");
                    assert_eq!(response.status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                    if response.header("connection") == Some("close") {
                        return;
                    }
                }
            });
        }
        while served.load(Ordering::Relaxed) < 200 {
            std::thread::sleep(Duration::from_millis(5));
        }
        weir.ok(&["stop"]);
    });
    assert!(weir.wait());
}
