//! The scenario `guard`: what a flood does to clients, with the guard and without, and what it costs.

mod flood;
mod nanoseconds;

use crate::figure::Scenario;

const MISLEADS: &str = "\
Flood, balancer, backends and client share two cores: the flood is made and met on one of them, by as \
many live XDP frames as that core makes, and nobody else's packets come in by the flooded interface. There \
is no card whose queues overflow, so an unguarded kernel loses fewer clients here than behind one. \
`BPF_PROG_TEST_RUN` has no driver, and the packet is always in the cache.";

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "guard",
    question: "Do clients get through a flood of SYNs, and what does the guard take for a packet?",
    misleads: MISLEADS,
    parts: &[
        ("listener", "New connections to a listener of this host under a spoofed SYN flood"),
        ("vip", "New connections to a VIP under the same flood"),
        ("nanoseconds", "Nanoseconds a packet, by `BPF_PROG_TEST_RUN`"),
    ],
    run: |part, rounds| match part {
        "listener" => flood::listener(rounds),
        "vip" => flood::vip(rounds),
        _ => nanoseconds::run(rounds),
    },
};
