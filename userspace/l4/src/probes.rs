//! Health probes that take a VIP's way to a backend: see `weir_abi::probe`.

use std::collections::HashMap as StdHashMap;
use std::net::SocketAddr;

use aya::maps::{HashMap, MapData};
use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use aya::{Ebpf, EbpfLoader};
use weir_abi::probe::{MARK, PROBES_MAX, Probe};
use weir_model::{Tunnel, Vip};
use weir_vips::Numbers;

use crate::tables::missing;
use crate::tc::attach;
use crate::vips::maps::{ProbeValue, address};
use crate::vips::{VipKey, forward_of, host, vip_key};
use crate::{Error, VipProbe};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-probe.o"));

const ATTEMPT: &str = "load the program for probes of VIPs";

/// The loaded programs. Dropping them detaches them.
pub(crate) struct Probes {
    entries: HashMap<MapData, u32, ProbeValue>,
    held: StdHashMap<u32, Probe>,
    numbers: Numbers<(VipKey, SocketAddr)>,
    // Kept for its links.
    _ebpf: Ebpf,
}

impl Probes {
    /// Loads them and attaches them to these interfaces, out and in.
    pub(crate) fn load(interfaces: &[String]) -> Result<Self, Error> {
        let mut ebpf =
            EbpfLoader::new().load(OBJECT).map_err(|error| Error::of(ATTEMPT, &error))?;
        let sides =
            [("weir_probe_out", TcAttachType::Egress), ("weir_probe_in", TcAttachType::Ingress)];
        for (name, side) in sides {
            let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
            let program: &mut SchedClassifier =
                program.try_into().map_err(|error| Error::of(ATTEMPT, &error))?;
            program.load().map_err(|error| Error::of(ATTEMPT, &error))?;
            attach(program, interfaces, side)?;
        }
        let entries = ebpf.take_map("PROBES").ok_or_else(|| missing("PROBES"))?;
        let entries = entries.try_into().map_err(|_| missing("PROBES"))?;
        let numbers = Numbers::new(0, u16::try_from(PROBES_MAX - 1).unwrap_or(u16::MAX));
        Ok(Self { entries, held: StdHashMap::new(), numbers, _ebpf: ebpf })
    }

    /// Has these be probed, and no others; the mark of each.
    pub(crate) fn set(&mut self, wanted: &[VipProbe], tunnel: &Tunnel) -> Result<Vec<u32>, Error> {
        let keys: Vec<_> = wanted.iter().map(|it| (vip_key(&it.vip), it.backend)).collect();
        let kept: std::collections::HashSet<_> = keys.iter().collect();
        for (_, number) in self.numbers.retain(|key, _| kept.contains(key)) {
            let mark = MARK | u32::from(number);
            self.held.remove(&mark);
            // One that is not there needs not to be removed.
            let _ = self.entries.remove(&mark);
        }
        let mut marks = Vec::with_capacity(wanted.len());
        for (key, it) in keys.iter().zip(wanted) {
            let (number, _) = self.numbers.give(key).ok_or_else(|| Error::Kernel {
                attempt: "probe VIPs".to_owned(),
                cause: format!("more than {PROBES_MAX} pairs of VIP and target"),
            })?;
            let (mark, entry) = (MARK | u32::from(number), entry(&it.vip, it.backend, tunnel));
            if self.held.get(&mark) != Some(&entry) {
                self.entries
                    .insert(mark, ProbeValue(entry), 0)
                    .map_err(|error| Error::of(format!("probe {}", it.vip), &error))?;
                self.held.insert(mark, entry);
            }
            marks.push(mark);
        }
        Ok(marks)
    }

    /// How many packets with a mark went its way.
    pub(crate) fn taken(&self, mark: u32) -> u64 {
        self.entries.get(&mark, 0).map_or(0, |entry| entry.0.packets)
    }
}

fn entry(vip: &Vip, backend: SocketAddr, tunnel: &Tunnel) -> Probe {
    let (source, _) = host::source(backend, &tunnel.sources);
    Probe {
        vip: address(vip.address),
        backend: address(backend.ip()),
        source: address(source),
        vip_port: vip.port.map_or(backend.port(), u16::from),
        backend_port: backend.port(),
        forward: forward_of(vip.forward) as u8,
        unused: 0,
        gue_port: tunnel.gue_port,
        packets: 0,
    }
}
