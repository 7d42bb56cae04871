//! Random packets: for VIPs, from backends behind them, about them, for somebody else; some damaged.

use weir_tests::packet;

use super::model::Model;

const CLIENTS4: [&str; 3] = ["192.0.2.1", "192.0.2.77", "192.0.2.200"];
const CLIENTS6: [&str; 3] = ["2001:db8:1::1", "2001:db8:1::ffff", "2001:db8:abcd::5"];
/// Some twice: they are VIPs twice.
const VIPS4: [&str; 6] =
    ["203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.9"];
const VIPS6: [&str; 4] = ["2001:db8:f::1", "2001:db8:f::1", "2001:db8:f::2", "2001:db8:f::3"];

/// A generator with a seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// One packet; one in five is damaged, one in forty cut.
pub(super) fn packet(random: &mut Random, model: &Model) -> Vec<u8> {
    let tags = random.of(&["", "", "", "vlan 7 > ", "vlan 8 outer > vlan 7 > "]);
    let body = Conversation::new(random).packet(random, model);
    let mut packet = packet::build(&format!("eth > {tags}{body}")).unwrap();
    if random.below(5) == 0 {
        for _ in 0..=random.below(3) {
            // Mostly in the headers.
            let at = random.below(packet.len().min(80));
            packet[at] = random.below(256) as u8;
        }
    }
    if random.below(40) == 0 {
        packet.truncate(14 + random.below(packet.len() - 13));
    }
    packet
}

/// Who talks to whom.
struct Conversation {
    is_v6: bool,
    client: &'static str,
    vip: &'static str,
    /// Of the VIP, and of the client.
    port: &'static str,
    own: usize,
    ttl: usize,
    options: &'static str,
    size: usize,
}

impl Conversation {
    fn new(random: &mut Random) -> Self {
        let is_v6 = random.below(2) == 0;
        Self {
            is_v6,
            client: if is_v6 { random.of(&CLIENTS6) } else { random.of(&CLIENTS4) },
            vip: if is_v6 { random.of(&VIPS6) } else { random.of(&VIPS4) },
            port: random.of(&["80", "80", "80", "53", "53", "443"]),
            own: 1_024 + random.below(200),
            ttl: random.of(&[64, 64, 64, 64, 2, 1, 0, 255]),
            options: random.of(&["", "", "", " options 1", " options 10", " tos 185"]),
            size: random.of(&[0, 1, 8, 8, 40, 1_400, 1_460]),
        }
    }

    fn packet(&self, random: &mut Random, model: &Model) -> String {
        let to_vip = self.ip(self.client, self.vip, self.options);
        let transport = self.transport(random);
        match random.below(20) {
            10 => self.fragment(random, &transport),
            11 | 12 => self.answer(random, model),
            13 | 14 => self.icmp_error(random),
            15 if self.is_v6 => format!("{to_vip} > ext hop > ext dest > {transport}"),
            16 => format!("{} > {transport}", self.ip(self.vip, self.vip, "")),
            17 => {
                let echo = if self.is_v6 { "icmp6 128 0 rest 7" } else { "icmp 8 0 rest 7" };
                format!("{to_vip} > {echo} > bytes {}", self.size.min(40))
            }
            _ => format!("{to_vip} > {transport}"),
        }
    }

    fn ip(&self, from: &str, to: &str, options: &str) -> String {
        let ttl = self.ttl;
        if self.is_v6 {
            format!("ipv6 {from} > {to} hop {ttl}")
        } else {
            format!("ipv4 {from} > {to} ttl {ttl}{options}")
        }
    }

    fn transport(&self, random: &mut Random) -> String {
        let Self { own, port, size, .. } = self;
        let flags = random.of(&["10", "10", "18", "02", "11", "04", "12"]);
        match random.below(5) {
            0 | 1 => format!("tcp {own} > {port} flags {flags} > bytes {size}"),
            2 | 3 => format!("udp {own} > {port} > bytes {size}"),
            _ => format!("udp {own} > {port} nosum > bytes {size}"),
        }
    }

    fn fragment(&self, random: &mut Random, transport: &str) -> String {
        let (id, is_first) = (random.below(40), random.below(2) == 0);
        let which = match (self.is_v6, is_first) {
            (false, true) => format!(" id {id} mf"),
            (false, false) => format!(" id {id} fragment 5"),
            (true, true) => format!("ext fragment id {id} more > "),
            (true, false) => format!("ext fragment id {id} offset 5 > "),
        };
        if self.is_v6 {
            format!("{} > {which}{transport}", self.ip(self.client, self.vip, ""))
        } else {
            format!("{} > {transport}", self.ip(self.client, self.vip, &which))
        }
    }

    fn answer(&self, random: &mut Random, model: &Model) -> String {
        let backend = model.any_backend(self.is_v6, random.below(64));
        let backend = backend.map_or_else(|| self.vip.to_owned(), |backend| backend.to_string());
        let (protocol, port) =
            (random.of(&["tcp", "udp"]), random.of(&["8080", "80", "53", "443"]));
        let Self { own, size, .. } = self;
        let ip = self.ip(&backend, self.client, self.options);
        format!("{ip} > {protocol} {port} > {own} > bytes {}", size.min(&40))
    }

    fn icmp_error(&self, random: &mut Random) -> String {
        let protocol = random.of(&["tcp", "udp"]);
        let told = if random.below(3) > 0 { self.vip } else { random.of(&VIPS4) };
        let told = if self.is_v6 { self.vip } else { told };
        let quoted = self.ip(told, self.client, self.options);
        let (error, router) = if self.is_v6 {
            (
                random.of(&["icmp6 1", "icmp6 2", "icmp6 3", "icmp6 4", "icmp6 135"]),
                "2001:db8:77::1",
            )
        } else {
            (random.of(&["icmp 3", "icmp 11", "icmp 12", "icmp 13", "icmp 5"]), "192.0.2.254")
        };
        let ip = self.ip(router, self.vip, "");
        format!("{ip} > {error} 4 rest 1300 > {quoted} > {protocol} {} > {}", self.port, self.own)
    }
}
