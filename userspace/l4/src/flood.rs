//! Floods for tests and benchmarks: never out of a network namespace of their own.

use std::time::{Duration, Instant};

use aya::maps::{Array, MapData};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};

use crate::Error;
use crate::tables::missing;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-flood.o"));

const ATTEMPT: &str = "load the programs of a flood";
/// Frames that are under way at a time.
const BATCH: u32 = 64;

/// Sends frames of random sources out of an interface.
pub struct Flood {
    ebpf: Ebpf,
    template: Array<MapData, [u64; 12]>,
    spread: Array<MapData, u32>,
    _attached: Option<XdpLink>,
}

impl std::fmt::Debug for Flood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flood").finish_non_exhaustive()
    }
}

impl Flood {
    /// Loads the programs.
    ///
    /// # Errors
    /// [`Error`]: not permitted, or the kernel does not take them.
    pub fn load() -> Result<Self, Error> {
        let mut ebpf =
            EbpfLoader::new().load(OBJECT).map_err(|error| Error::of(ATTEMPT, &error))?;
        let mut take = |name: &str| ebpf.take_map(name).ok_or_else(|| missing(name));
        let template = take("TEMPLATE")?.try_into().map_err(|_| missing("TEMPLATE"))?;
        let spread = take("SPREAD")?.try_into().map_err(|_| missing("SPREAD"))?;
        for (_, program) in ebpf.programs_mut() {
            let program: Result<&mut Xdp, _> = program.try_into();
            let program = program.map_err(|error| Error::of(ATTEMPT, &error))?;
            program.load().map_err(|error| Error::of(ATTEMPT, &error))?;
        }
        Ok(Self { ebpf, template, spread, _attached: None })
    }

    /// Attaches a program to an interface: `sink`, where answers end, or `pass`.
    ///
    /// # Errors
    /// There is no such interface, or it has a program already.
    pub fn attach(&mut self, program: &str, interface: &str) -> Result<(), Error> {
        let failed = |error: ProgramError| Error::of(format!("attach to {interface}"), &error);
        let program = self.program(program)?;
        let id = program.attach(interface, XdpMode::Driver).map_err(failed)?;
        self._attached = Some(program.take_link(id).map_err(failed)?);
        Ok(())
    }

    /// Sends `count` frames like this TCP one, each of another port and number, and of a source in which the
    /// bits of `spread` are random (IPv6: in its first 32); how long that took.
    ///
    /// # Errors
    /// There is no such interface, the frame is too long.
    pub fn send(
        &mut self,
        interface: &str,
        frame: &[u8],
        spread: u32,
        count: u32,
    ) -> Result<Duration, Error> {
        let attempt = || format!("send frames out of {interface}");
        let is_v4 = frame.get(12..14) == Some(&[8, 0]);
        let (program, size) = match (is_v4, frame.len()) {
            (true, 54) => ("bare4", 54),
            (true, _) => ("tcp4", 80),
            (false, _) => ("tcp6", 96),
        };
        let mut padded = frame.to_vec();
        padded.resize(size.max(frame.len()), 0);
        let sent = padded.clone();
        padded.resize(12 * 8, 0);
        let word = |at: usize| {
            let bytes = padded.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        let template = std::array::from_fn(word);
        self.template.set(0, template, 0).map_err(|error| Error::of(attempt(), &error))?;
        self.spread.set(0, spread, 0).map_err(|error| Error::of(attempt(), &error))?;
        let index = nix::net::if_::if_nametoindex(interface);
        let index = index.map_err(|error| Error::of(attempt(), &error))?;
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let fields = [0, sent.len() as u32, 0, index, 0, 0];
        let context: Vec<u8> = fields.into_iter().flat_map(u32::to_ne_bytes).collect();
        let options = TestRunOptions {
            data_in: Some(&sent),
            ctx_in: Some(&context),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        let began = Instant::now();
        let done = self.program(program)?.test_run(options);
        done.map_err(|error| Error::of(attempt(), &error))?;
        Ok(began.elapsed())
    }

    fn program(&mut self, name: &str) -> Result<&mut Xdp, Error> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| missing(name))?;
        program.try_into().map_err(|error: ProgramError| Error::of(ATTEMPT, &error))
    }
}
