//! Bans on real packets: lists, precedence, dry-run, events, what is protected, what happens while they
//! change.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::need;
use weir_tests::world::World;

use crate::site::Site;

fn stderr(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn lists_in_every_form_are_merged_told_of_and_saved() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let weir = &site.weir;
    let list = weir.file("mixed.txt");
    let text = "192.0.2.0/24 # a comment\n192.0.2.7\n192.0.2.0/24\n198.51.100.1-198.51.100.2\n\
                {\"cidr\":\"203.0.113.0/25\",\"reason\":\"rude\",\"ttl\":\"1h\"}\nadd x 203.0.113.200 comment \"a b\"\n\
                nobody\n::ffff:198.51.100.9\n2001:db8::/32\n";
    std::fs::write(&list, text).unwrap();
    let told = weir.ok(&["ban", "load", &list.display().to_string()]);
    assert!(told.starts_with("7 added, 0 removed, 7 banned now"), "{told}");
    assert!(told.contains("merged: 1 that stood there before, 1 inside wider"), "{told}");
    assert!(told.contains("1 lines skipped:\n  line 7: `nobody`"), "{told}");
    let test = weir.ok(&["ban", "test", "203.0.113.9"]);
    assert!(
        test.contains("drop (banned)\n  banned by 203.0.113.0/25 of list mixed: rude"),
        "{test}"
    );
    // What is saved can be loaded, with reason and end.
    let saved = weir.file("saved.json");
    weir.ok(&["ban", "save", &saved.display().to_string()]);
    assert_eq!(std::fs::read_to_string(&saved).unwrap().lines().count(), 7);
    assert!(
        weir.ok(&["ban", "del", "--list", "mixed"]).starts_with("0 added, 7 removed, 0 banned")
    );
    let told = weir.ok(&["ban", "load", &saved.display().to_string(), "--name", "again"]);
    assert!(told.starts_with("7 added, 0 removed, 7 banned now"), "{told}");
    let list: Value = serde_json::from_str(&weir.ok(&["ban", "list", "--json"])).unwrap();
    let rude = list["data"].as_array().unwrap().iter().find(|ban| ban["reason"] == "rude").unwrap();
    assert_eq!((&rude["cidr"], &rude["origin"]), (&"203.0.113.0/25".into(), &"list again".into()));
    assert!(rude["expires"].as_u64().is_some());
    let stats = weir.ok(&["ban", "stats"]);
    assert!(stats.starts_with("7 prefixes banned (0 of them made live)"), "{stats}");
}

#[test]
fn what_must_not_be_banned_by_accident_needs_force() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let weir = &site.weir;
    let backend = World::address("backend1");
    for (cidr, why) in [
        (backend.as_str(), "is protected: it is a backend"),
        ("127.0.0.1", "is protected: it is this host itself"),
        ("0.0.0.0/0", "is every address of its family"),
        ("::/0", "is every address of its family"),
    ] {
        let refused = stderr(&weir.weir(&["ban", "add", "192.0.2.1", cidr]));
        assert!(refused.contains(why) && refused.contains("nothing was changed"), "{refused}");
    }
    assert_eq!(weir.status()["kernel"]["bans"], 0);
    // A wide ban goes around what is protected: backends on interfaces with XDP stay reachable.
    weir.ok(&["ban", "add", "198.18.0.0/16"]);
    assert!(weir.ok(&["ban", "test", &backend]).contains("pass (protected)"));
    assert_eq!(site.get("client1"), None);
    weir.ok(&["ban", "add", &backend, "--force"]);
    assert!(weir.ok(&["ban", "test", &backend]).contains("drop (banned)"));
    let list = weir.file("all.txt");
    std::fs::write(&list, "0.0.0.0/0\n").unwrap();
    let refused = stderr(&weir.weir(&["ban", "load", &list.display().to_string()]));
    assert!(refused.contains("is every address of its family"), "{refused}");
}

#[test]
fn dry_run_counts_and_drops_nothing() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let (weir, address) = (&site.weir, World::address("client1"));
    let counted = |reason: &str| {
        let status = site.weir.status();
        let verdicts = status["kernel"]["verdicts"].as_array().unwrap().clone();
        verdicts.iter().find(|verdict| verdict["reason"] == reason).unwrap()["packets"]
            .as_u64()
            .unwrap()
    };
    weir.ok(&["ban", "add", &address, "--dry-run"]);
    assert_eq!(site.get("client1"), Some(200));
    assert!(counted("would_drop") > 0);
    assert_eq!(counted("banned"), 0);
    assert!(weir.ok(&["ban", "test", &address]).contains("pass (would_drop)"));
    // A list that is tried, and one that is not, of the same prefix: it is dropped.
    let list = weir.file("l.txt");
    std::fs::write(&list, format!("{address}\n")).unwrap();
    weir.ok(&["ban", "load", &list.display().to_string(), "--dry-run"]);
    assert_eq!(site.get("client1"), Some(200));
    weir.ok(&["ban", "load", &list.display().to_string(), "--name", "other"]);
    assert_eq!(site.get("client1"), None);
    // The whole table.
    weir.write(&Site::with("bans: { dry-run: true }"));
    weir.ok(&["reload"]);
    assert_eq!(site.get("client1"), Some(200));
    assert_eq!(weir.status()["kernel"]["dry_run"], true);
    weir.write(&Site::sections());
    weir.ok(&["reload"]);
    assert_eq!(site.get("client1"), None);
}

#[test]
fn hits_and_the_last_of_them_are_counted_by_ban_and_survive_a_new_table() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let (weir, address) = (&site.weir, World::address("client1"));
    weir.ok(&["ban", "add", &address, "198.18.1.0/24"]);
    site.send("client1", 100);
    let packets = |cidr: &str| {
        let list: Value = serde_json::from_str(&site.weir.ok(&["ban", "list", "--json"])).unwrap();
        let bans = list["data"].as_array().unwrap().clone();
        let ban = bans.iter().find(|ban| ban["cidr"] == cidr).unwrap().clone();
        (ban["packets"].as_u64().unwrap(), ban["last_hit"].as_u64())
    };
    let host = format!("{address}/32");
    let (before, last) = packets(&host);
    assert!(before >= 100 && last.is_some(), "{before} {last:?}");
    assert_eq!(packets("198.18.1.0/24"), (0, None), "the most specific ban counts");
    let list = weir.file("l.txt");
    std::fs::write(&list, "192.0.2.0/24\n").unwrap();
    weir.ok(&["ban", "load", &list.display().to_string()]);
    site.send("client1", 100);
    assert!(packets(&host).0 >= before + 100);
    weir.ok(&["ban", "del", &address]);
    weir.ok(&["ban", "add", &address]);
    assert_eq!(packets(&host), (0, None), "a new ban counts from zero");
}

#[test]
fn dropped_packets_are_watched() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let (weir, address) = (&site.weir, World::address("client1"));
    weir.ok(&["ban", "add", &address, "--reason", "rude"]);
    let ended = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        // It sends until the watch, which takes a moment to begin, has seen enough.
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                site.send("client1", 10);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let output = weir.weir(&["ban", "watch", "--count", "20", "--json"]);
        ended.store(true, Ordering::Relaxed);
        output
    });
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let packets: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let packets: Vec<_> = packets.iter().filter(|packet| packet["source"].is_string()).collect();
    assert_eq!(packets.len(), 20, "{lines}");
    for packet in packets {
        assert_eq!(packet["source"], address.as_str());
        assert_eq!(packet["prefix"], format!("{address}/32"));
        assert_eq!((&packet["verdict"], &packet["reason"]), (&"drop".into(), &"banned".into()));
        assert_eq!(
            (&packet["origin"], &packet["ban_reason"]),
            (&"operator".into(), &"rude".into())
        );
    }
}

/// While a list is replaced again and again by one that also holds a client, nothing of that client
/// comes through, and nothing of the other is lost.
#[test]
fn replacing_a_list_is_invisible_to_traffic() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let (weir, banned) = (&site.weir, World::address("client1"));
    let lists = ["a.txt", "b.txt"].map(|name| weir.file(name));
    for (index, list) in (0u32..).zip(&lists) {
        let others = (0..100_000)
            .map(|n| format!("{}\n", std::net::Ipv4Addr::from(0x0b00_0000 + index + n * 4_001)));
        std::fs::write(list, others.collect::<String>() + &banned + "\n").unwrap();
    }
    let load = |list: &std::path::Path| {
        weir.ok(&["ban", "load", &list.display().to_string(), "--name", "l", "--replace"]);
    };
    load(&lists[0]);
    assert_eq!(site.get("client1"), None);
    let (ended, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let unharmed = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                assert_eq!(site.get("client2"), Some(200));
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        let flood = scope.spawn(|| {
            let mut sent = 0;
            while !ended.load(Ordering::Relaxed) {
                site.send("client1", 200);
                sent += 200;
            }
            sent
        });
        let before = passed_of_client1(&site);
        (0..10).for_each(|round| load(&lists[(round + 1) % 2]));
        while served.load(Ordering::Relaxed) < 100 {
            std::thread::sleep(Duration::from_millis(5));
        }
        ended.store(true, Ordering::Relaxed);
        unharmed.join().unwrap();
        assert!(flood.join().unwrap() > 1_000);
        assert_eq!(passed_of_client1(&site), before, "a packet of a banned client came through");
    });
}

/// UDP datagrams to nobody that Weir's host has seen: all of them are client1's.
fn passed_of_client1(site: &Site) -> u64 {
    let output = World::command(&site.world.weir(), "cat").arg("/proc/net/snmp").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let udp: Vec<_> = text.lines().filter(|line| line.starts_with("Udp:")).collect();
    let place = udp[0].split(' ').position(|name| name == "NoPorts").unwrap();
    udp[1].split(' ').nth(place).unwrap().parse().unwrap()
}

#[test]
fn a_list_of_the_configuration_is_followed_and_one_that_vanishes_stays() {
    if !need::root() {
        return;
    }
    let site = Site::start();
    let (weir, list) = (&site.weir, site.weir.file("followed.txt"));
    std::fs::write(&list, "192.0.2.0/24\n").unwrap();
    weir.write(&Site::with(&format!("bans: {{ files: [{}] }}", list.display())));
    weir.ok(&["reload"]);
    assert_eq!(site.get("client1"), Some(200));
    std::fs::write(&list, format!("192.0.2.0/24\n{}\n", World::address("client1"))).unwrap();
    weir.wait_until("the changed list is in force", |status| status["kernel"]["bans"] == 2);
    assert_eq!(site.get("client1"), None);
    // It is the configuration's: nobody ends it from elsewhere, and least of all its file.
    let refused = stderr(&weir.weir(&["ban", "del", "--list", &list.display().to_string()]));
    assert!(refused.contains("a list of the configuration is changed there"), "{refused}");
    assert!(list.exists());
    let refused = stderr(&weir.weir(&["ban", "del", "--list", "unheard-of"]));
    assert!(refused.contains("there is no list `unheard-of`"), "{refused}");
    std::fs::remove_file(&list).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !weir.log().contains("is gone; what was read of it stays") {
        assert!(Instant::now() < deadline, "{}", weir.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(site.get("client1"), None);
}

#[test]
fn a_full_table_and_a_list_of_nothing_change_nothing() {
    if !need::root() {
        return;
    }
    let site = Site::start_with(&Site::with("bans: { capacity: 3 }"));
    let (weir, list) = (&site.weir, site.weir.file("l.txt"));
    let file = list.display().to_string();
    std::fs::write(&list, format!("{}\n192.0.2.1\n", World::address("client1"))).unwrap();
    weir.ok(&["ban", "load", &file]);
    std::fs::write(&list, "10.0.0.1\n10.0.0.2\n10.0.0.3\n10.0.0.4\n").unwrap();
    let refused = stderr(&weir.weir(&["ban", "load", &file, "--replace"]));
    assert!(refused.contains("4 IPv4 prefixes would be banned, but `kernel.bans.capacity` is 3"));
    let refused = stderr(&weir.weir(&["ban", "add", "10.0.0.1", "10.0.0.2"]));
    assert!(refused.contains("4 IPv4 prefixes would be banned"), "{refused}");
    std::fs::write(&list, "<html>\n").unwrap();
    let refused = stderr(&weir.weir(&["ban", "load", &file, "--replace"]));
    assert!(refused.contains("no line of the list could be read (line 1: `<html>`"), "{refused}");
    let refused = stderr(&weir.weir(&["ban", "load", "/nonexistent"]));
    assert!(refused.contains("read the list /nonexistent"), "{refused}");
    assert_eq!(weir.status()["kernel"]["bans"], 2);
    assert_eq!(site.get("client1"), None);
}
