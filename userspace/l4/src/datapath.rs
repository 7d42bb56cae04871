//! The program in the kernel: loaded, attached, counted.

use std::path::Path;
use std::sync::Mutex;

use aya::maps::{PerCpuArray, RingBuf};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use weir_abi::Verdict;
use weir_abi::ban::{Event, EventMeter};
use weir_model::LogLevel;

use crate::attach;
use crate::guard;
pub(crate) use crate::guard::Guards;
use crate::kernel::lock;
pub use crate::pins::detach;
use crate::pins::{MAPS, Pins};
pub(crate) use crate::probes::Probes;
use crate::samples::Samples;
pub(crate) use crate::tables::Tables;
use crate::tables::missing;
pub(crate) use crate::vips::Vips;
use crate::vips::maps::{Maps, take};
use crate::{Attached, Counter, Error};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-xdp.o"));

/// The program's name in the object.
const PROGRAM: &str = "weir";
const ATTEMPT: &str = "load the XDP program";
/// At debug level, one dropped packet of a reason in so many is logged, by CPU.
const SAMPLE_EVERY: u64 = 1_000;
/// A packet of `BPF_PROG_TEST_RUN` fits in a page.
const TEST_PACKET_SIZE_MAX: usize = 4096;

/// The loaded program.
pub(crate) struct Datapath {
    // Dropped first: the links go before the maps.
    program: Mutex<Program>,
    verdicts: PerCpuArray<aya::maps::MapData, CounterValue>,
    events: Mutex<RingBuf<aya::maps::MapData>>,
    meters: PerCpuArray<aya::maps::MapData, MeterValue>,
    _samples: Option<Samples>,
}

struct Program {
    ebpf: Ebpf,
    attached: Vec<Attached>,
    pins: Option<Pins>,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct CounterValue(weir_abi::Counter);

// SAFETY: two u64 in a repr(C) struct: no padding, and any bytes are a value.
unsafe impl Pod for CounterValue {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct MeterValue(EventMeter);

// SAFETY: two u32 and two u64 in a repr(C) struct: no padding, and any bytes are a value.
unsafe impl Pod for MeterValue {}

impl Datapath {
    /// Loads the program with its tables, in maps that another process left if they are alike.
    pub(crate) fn load(
        settings: &weir_model::Kernel,
        state: Option<&Path>,
        log: LogLevel,
    ) -> Result<(Self, Tables, Vips, Guards), Error> {
        let pins = match &settings.pin {
            None => None,
            Some(folder) => {
                let pins = Pins::take(folder)?;
                if pins.is_none() {
                    let folder = folder.display();
                    tracing::warn!(
                        "{folder} is in no BPF file system (mount -t bpf bpf /sys/fs/bpf): \
                         bans will end with this process"
                    );
                }
                pins
            }
        };
        if let Some(pins) = pins.as_ref().filter(|pins| pins.has_maps())
            && let Some(difference) = pins.difference(&object(settings, log, None)?)
        {
            tracing::warn!("maps of another version are not taken over: {difference}");
            pins.remove_maps();
        }
        let mut ebpf = object(settings, log, pins.as_ref())?;
        program(&mut ebpf)?.load().map_err(|error| Error::of(ATTEMPT, &error))?;
        let samples = if log == LogLevel::Debug { Some(Samples::start(&mut ebpf)?) } else { None };
        let tables = Tables::of(&mut ebpf)?;
        let vips = Vips::new(Maps::of(&mut ebpf)?);
        let guards = Guards::new(guard::Maps::of(&mut ebpf)?, state, &settings.interfaces);
        let datapath = Self {
            verdicts: take(&mut ebpf, "VERDICTS")?,
            events: Mutex::new(take(&mut ebpf, "EVENTS")?),
            meters: take(&mut ebpf, "EVENT_METERS")?,
            program: Mutex::new(Program { ebpf, attached: Vec::new(), pins }),
            _samples: samples,
        };
        Ok((datapath, tables, vips, guards))
    }

    /// Attaches to every interface, or to none.
    pub(crate) fn attach(&self, settings: &weir_model::Kernel) -> Result<(), Error> {
        let mut held = lock(&self.program);
        let Program { ebpf, attached, pins } = &mut *held;
        *attached = attach::attach(program(ebpf)?, settings, pins.as_ref())?;
        Ok(())
    }

    /// Removes the pins, so that everything ends with this process.
    pub(crate) fn unpin(&self) {
        if let Some(pins) = &lock(&self.program).pins {
            pins.remove();
        }
    }

    /// Whether what is attached outlives this process.
    pub(crate) fn is_pinned(&self) -> bool {
        lock(&self.program).pins.as_ref().is_some_and(|pins| !pins.links().is_empty())
    }

    pub(crate) fn interfaces(&self) -> Vec<Attached> {
        lock(&self.program).attached.clone()
    }

    pub(crate) fn counters(&self) -> Result<Vec<Counter>, Error> {
        let read = |verdict: Verdict| {
            let values = self.verdicts.get(&verdict.index(), 0);
            let values = values.map_err(|error| Error::of("read the packet counters", &error))?;
            let sum =
                |of: fn(&weir_abi::Counter) -> u64| values.iter().map(|value| of(&value.0)).sum();
            Ok(Counter {
                verdict: verdict.name(),
                reason: verdict.reason(),
                packets: sum(|counter| counter.packets),
                bytes: sum(|counter| counter.bytes),
            })
        };
        Verdict::ALL.into_iter().map(read).collect()
    }

    /// The events since the last call.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut ring = lock(&self.events);
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            events.extend(Event::read(&item));
        }
        events
    }

    /// How many packets were not told of: more than the rate allows, and for want of room.
    pub(crate) fn untold(&self) -> Result<(u64, u64), Error> {
        let meters = self.meters.get(&0, 0);
        let meters = meters.map_err(|error| Error::of("read the event counters", &error))?;
        let limited = meters.iter().map(|meter| meter.0.limited).sum();
        Ok((limited, meters.iter().map(|meter| meter.0.overflowed).sum()))
    }

    pub(crate) fn test_run(&self, packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        let mut out = vec![0; TEST_PACKET_SIZE_MAX];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let attempt = || format!("run the XDP program on {} bytes", packet.len());
        let result = program(&mut lock(&self.program).ebpf)?.test_run(options);
        let result = result.map_err(|error| Error::of(attempt(), &error))?;
        out.truncate(usize::try_from(result.data_size_out).unwrap_or(0));
        Ok((result.return_value, out))
    }
}

fn object(
    settings: &weir_model::Kernel,
    log: LogLevel,
    pins: Option<&Pins>,
) -> Result<Ebpf, Error> {
    let sample_every = if log == LogLevel::Debug { SAMPLE_EVERY } else { 0 };
    let mut loader = EbpfLoader::new();
    loader.override_global("SAMPLE_EVERY", &sample_every, true);
    for name in ["FLOWS", "NAT_FLOWS"] {
        loader.map_max_entries(name, settings.flows);
    }
    if let Some(pins) = pins {
        for name in MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    loader.load(OBJECT).map_err(|error| Error::of(ATTEMPT, &error))
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = ebpf.program_mut(PROGRAM).ok_or_else(|| missing(PROGRAM))?;
    program.try_into().map_err(|error: ProgramError| Error::of(ATTEMPT, &error))
}
