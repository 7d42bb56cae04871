//! Frames that a client sends over veth, and that the balancer sends back over it to a backend.

use anyhow::Result;
use weir_l4::measure::Measured;
use weir_model::Forward;
use weir_tests::packet;
use weir_tests::world::{World, inside};

use super::{pool, vip};
use crate::figure::Figure;

/// Frames of one measurement.
const FRAMES: u32 = 1_000_000;
/// What Katran's UDP costs more than an empty `XDP_TX`, with one flow and with 32,768, nanoseconds; half of the second
/// is the goal. Measured on another machine of the kind (EPYC), so the comparison is rough.
const KATRAN_32K: f64 = 346.0;

pub(crate) fn run(rounds: u32) -> Result<Vec<Figure>> {
    let world = World::new()?;
    let (here, there) = (world.weir(), world.host("client1"));
    // The backend lives where the frames come from, so that they go back the way they came.
    let backend = World::address("client1").parse()?;
    let pools = vec![pool("p", std::iter::once(std::net::SocketAddr::new(backend, 80)))];
    let vips = vec![vip("v", "203.0.113.1", weir_model::Protocol::Udp, Forward::Ipip, 0)?];
    let wanted = weir_l4::Wanted { vips, pools, ..weir_l4::Wanted::default() };
    let mut balancer = inside(&here, || -> Result<_> {
        let mut balancer = Measured::load(1)?;
        balancer.balance(&wanted)?;
        Ok(balancer)
    })??;
    let mut sender = inside(&there, || -> Result<_> {
        let mut sender = Measured::load(1)?;
        sender.attach("sink", "eth0")?;
        Ok(sender)
    })??;
    let frame = packet::build("eth > ipv4 198.18.0.1 > 203.0.113.1 > udp 40000 > 80 > bytes 22")?;
    let mut added = [Vec::new(), Vec::new()];
    let mut bases = Vec::new();
    for round in 0..=rounds {
        let mut nanoseconds = |program: &str, flows: u32| -> Result<f64> {
            inside(&here, || balancer.attach(program, "client1"))??;
            sender.set_packet(&frame, flows, 1)?;
            let took = inside(&there, || sender.flood_flows("eth0", &frame, FRAMES))??;
            Ok(took.as_secs_f64() * 1e9 / f64::from(FRAMES))
        };
        let base = nanoseconds("flood", 1)?;
        let times = [nanoseconds("l4_live", 1)?, nanoseconds("l4_live", 1 << 15)?];
        if round > 0 {
            bases.push(base);
            for (added, time) in added.iter_mut().zip(times) {
                added.push(time - base);
            }
        }
    }
    let [one, many] = added;
    Ok(vec![
        Figure::of("an empty `XDP_TX` and back", bases, "ns a frame"),
        Figure::of("UDP over IPIP, 1 flow, more than that", one, "ns a frame"),
        Figure::of("UDP over IPIP, 32,768 flows, more than that", many, "ns a frame")
            .at_most(0.5 * KATRAN_32K),
    ])
}
