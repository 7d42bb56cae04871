//! What goes wrong is one clear error: exit 1, or 2 for bad usage, and nothing half done.

use std::process::{Command, Output};

use weir_tests::balancer::{self, Balancer};
use weir_tests::need;
use weir_tests::world::{World, namespaces};

const LISTENER: &str = "listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n";

struct Config {
    folder: tempfile::TempDir,
}

impl Config {
    fn new(sections: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let common = format!(
            "admin: {{ address: \"off\", socket: \"{}\" }}\nstatus: {{ address: \"off\" }}\n\
             state: \"{}\"\n",
            socket.display(),
            folder.path().join("state").display()
        );
        std::fs::write(folder.path().join("weir.yaml"), format!("{sections}{common}")).unwrap();
        Self { folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("weir.yaml").display().to_string()
    }
}

fn weir(arguments: &[&str]) -> Output {
    Command::new(need::weir()).args(arguments).env_remove("WEIR_SOCKET").output().unwrap()
}

/// Checks that it failed with that code, and said so in few lines on standard error.
fn refused(output: &Output, code: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(message), "`{message}` in: {stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!stderr.contains("panicked"), "{stderr}");
    let said: Vec<_> = stderr.lines().filter(|line| !line.contains(" INFO ")).collect();
    assert!(said.len() <= 8, "{stderr}");
}

#[test]
fn mistakes_have_their_place_and_the_nearest_key() {
    let config = Config::new("listeners:\n  - name: web\n    adress: 127.0.0.1:8000\n");
    let path = config.path();
    for command in ["check", "run"] {
        let output = weir(&[command, "-c", &path]);
        refused(
            &output,
            1,
            &format!("{path}:3:5: unknown key `adress` of a listener; did you mean `address`?"),
        );
    }
    let missing = weir(&["check", "-c", "/nonexistent.yaml"]);
    refused(&missing, 1, "read the configuration /nonexistent.yaml: No such file");
}

#[test]
fn a_valid_file_is_called_valid() {
    let config = Config::new(LISTENER);
    let output = weir(&["check", "-c", &config.path()]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("is valid"));
}

#[test]
fn a_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config::new(&LISTENER.replace("127.0.0.1:0", &address.to_string()));
    let output = weir(&["run", "-c", &config.path()]);
    refused(&output, 1, &format!("listener web: listen on {address}: the port is in use"));
    assert!(!config.folder.path().join("admin.sock").exists());
}

#[test]
fn a_second_weir_does_not_share_the_port_of_the_first() {
    let first = Balancer::start(
        &balancer::simple(&[]).replace("targets: []", "targets: [\"127.0.0.1:1\"]"),
    );
    let address = first.address("web");
    let config = Config::new(&LISTENER.replace("127.0.0.1:0", &address.to_string()));
    refused(&weir(&["run", "-c", &config.path()]), 1, "the port is in use");
}

#[test]
fn a_missing_interface() {
    if !need::root() {
        return;
    }
    let config = Config::new(&format!("{LISTENER}kernel: {{ interfaces: [lo, nope0] }}\n"));
    let world = World::new().unwrap();
    let output = World::command(&world.weir(), need::weir())
        .args(["run", "-c", &config.path()])
        .output()
        .unwrap();
    refused(&output, 1, "attach XDP to nope0: there is no such interface; there are: lo,");
    let links = World::command(&world.weir(), "ip").args(["link", "show", "lo"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&links.stdout).contains("xdp"), "nothing is left attached");
    let name = world.weir();
    drop(world);
    assert!(!namespaces().contains(&name));
}

#[test]
fn another_program_on_the_interface() {
    if !need::root() {
        return;
    }
    let world = World::new().unwrap();
    let sections = format!("{LISTENER}kernel: {{ interfaces: [client1] }}\n");
    let _first = Balancer::start_in(Some(&world.weir()), &sections);
    let config = Config::new(&sections);
    let output = World::command(&world.weir(), need::weir())
        .args(["run", "-c", &config.path()])
        .output()
        .unwrap();
    refused(&output, 1, "attach XDP to client1: another XDP program is attached already");
}

#[test]
fn no_permission_for_bpf() {
    if !(need::root() && need::tool("setpriv")) {
        return;
    }
    let config = Config::new(&format!("{LISTENER}kernel: {{ interfaces: [lo] }}\n"));
    let all = "-bpf,-sys_admin,-net_admin,-perfmon";
    let output = Command::new("setpriv")
        .args([&format!("--bounding-set={all}"), &format!("--inh-caps={all}")])
        .arg(need::weir())
        .args(["run", "-c", &config.path()])
        .output()
        .unwrap();
    refused(
        &output,
        1,
        "load the XDP program: not permitted; run as root, or with the capabilities CAP_BPF",
    );
}

#[test]
fn nobody_to_ask() {
    for command in [&["status"][..], &["reload"], &["ban", "list"], &["allow", "list"], &["stop"]] {
        let arguments = [command, &["--socket", "/nonexistent/weir.sock"]].concat();
        refused(&weir(&arguments), 1, "no running weir answers at /nonexistent/weir.sock");
    }
}

#[test]
fn bad_usage_is_exit_2() {
    refused(&weir(&["rn"]), 2, "unrecognized subcommand 'rn'");
    refused(&weir(&["ban", "test", "nobody"]), 2, "invalid value 'nobody'");
    refused(&weir(&["run", "--kernel", "fast"]), 2, "invalid value 'fast'");
    refused(&weir(&["ban", "add"]), 2, "required");
}

#[test]
fn doctor_tells_each_finding_and_its_remedy() {
    let output = weir(&["doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let subjects: Vec<_> =
        findings.as_array().unwrap().iter().map(|one| one["subject"].as_str().unwrap()).collect();
    assert!(subjects.contains(&"capabilities") && subjects.contains(&"kernel"), "{subjects:?}");
    for finding in findings.as_array().unwrap() {
        assert_eq!(finding["ok"] == true, finding["remedy"] == "", "{finding}");
    }
}
