//! The decapsulator on a backend.

use std::net::IpAddr;

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use weir_abi::decap::Outcome;
use weir_model::KernelMode;

use crate::attach::attach;
use crate::tables::missing;
use crate::vips::maps::{AddressValue, address};
use crate::{Attached, Error, tc};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-decap.o"));

const XDP: &str = "weir_decap";
const TC: &str = "weir_decap_tc";
const ATTEMPT: &str = "load the decapsulator";
/// A packet of `BPF_PROG_TEST_RUN` fits in a page.
const TEST_PACKET_SIZE_MAX: usize = 4096;

/// The loaded decapsulator. Dropping it detaches it.
pub struct Decapsulator {
    ebpf: Ebpf,
    outcomes: PerCpuArray<MapData, u64>,
    // A program that is loaded later must find it open.
    _addresses: HashMap<MapData, AddressValue, u32>,
}

impl Decapsulator {
    /// Loads it for these VIPs.
    ///
    /// # Errors
    /// [`Error`]: not permitted, the kernel does not take the program, too many VIPs.
    pub fn load(vips: &[IpAddr], gue_port: u16) -> Result<Self, Error> {
        let mut ebpf = EbpfLoader::new()
            .override_global("GUE_PORT", &gue_port, true)
            .load(OBJECT)
            .map_err(|error| Error::of(ATTEMPT, &error))?;
        xdp(&mut ebpf)?.load().map_err(|error| Error::of(ATTEMPT, &error))?;
        let addresses = ebpf.take_map("ADDRESSES").ok_or_else(|| missing("ADDRESSES"))?;
        let mut addresses: HashMap<MapData, AddressValue, u32> =
            addresses.try_into().map_err(|_| missing("ADDRESSES"))?;
        for &vip in vips {
            addresses
                .insert(AddressValue(address(vip)), 1, 0)
                .map_err(|error| Error::of(format!("note the VIP {vip}"), &error))?;
        }
        let outcomes = ebpf.take_map("OUTCOME_COUNTERS");
        let outcomes = outcomes.ok_or_else(|| missing("OUTCOME_COUNTERS"))?;
        let outcomes = outcomes.try_into().map_err(|_| missing("OUTCOME_COUNTERS"))?;
        Ok(Self { ebpf, outcomes, _addresses: addresses })
    }

    /// Attaches it to these interfaces, by XDP.
    ///
    /// # Errors
    /// [`Error`]: there is no such interface, it has a program already, its driver refuses.
    pub fn attach(
        &mut self,
        interfaces: &[String],
        mode: KernelMode,
    ) -> Result<Vec<Attached>, Error> {
        let settings = weir_model::Kernel {
            interfaces: interfaces.to_vec(),
            mode,
            ..weir_model::Kernel::default()
        };
        attach(xdp(&mut self.ebpf)?, &settings, None)
    }

    /// Attaches it to these interfaces, in the network stack.
    ///
    /// # Errors
    /// [`Error`]: there is no such interface.
    pub fn attach_tc(&mut self, interfaces: &[String]) -> Result<(), Error> {
        let program = self.ebpf.program_mut(TC).ok_or_else(|| missing(TC))?;
        let program: &mut SchedClassifier =
            program.try_into().map_err(|error: ProgramError| Error::of(ATTEMPT, &error))?;
        program.load().map_err(|error| Error::of(ATTEMPT, &error))?;
        tc::attach(program, interfaces, TcAttachType::Ingress)
    }

    /// Packets by what became of them.
    ///
    /// # Errors
    /// The kernel does not let the map be read.
    pub fn outcomes(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        let count = |(outcome, name): (Outcome, &'static str)| {
            let values = self.outcomes.get(&(outcome as u32), 0);
            let values = values.map_err(|error| Error::of("read the packet counters", &error))?;
            Ok((name, values.iter().sum()))
        };
        Outcome::NAMES.into_iter().map(count).collect()
    }

    /// Runs it on a packet without sending it: the XDP action and the packet as it was left.
    ///
    /// # Errors
    /// The kernel refuses the packet.
    pub fn test_run(&mut self, packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        let mut out = vec![0; TEST_PACKET_SIZE_MAX];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let attempt = || format!("run the decapsulator on {} bytes", packet.len());
        let result = xdp(&mut self.ebpf)?.test_run(options);
        let result = result.map_err(|error| Error::of(attempt(), &error))?;
        out.truncate(usize::try_from(result.data_size_out).unwrap_or(0));
        Ok((result.return_value, out))
    }
}

impl std::fmt::Debug for Decapsulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decapsulator").finish_non_exhaustive()
    }
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = ebpf.program_mut(XDP).ok_or_else(|| missing(XDP))?;
    program.try_into().map_err(|error: ProgramError| Error::of(ATTEMPT, &error))
}
