//! The one place that speaks to the kernel: the program, its links, its maps.

use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, Pod};
use weir_abi::Verdict;
use weir_model::{Cidr, KernelMode, LogLevel};

use crate::error::innermost;
use crate::kernel::ALLOWED_MAX;
use crate::samples::Samples;
use crate::{AttachMode, Attached, Counter, Error, batch};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-xdp.o"));

/// The program's name in the object.
const PROGRAM: &str = "weir";
/// At debug level, one dropped packet of a reason in so many is logged, by CPU.
const SAMPLE_EVERY: u64 = 1_000;
/// A packet of `BPF_PROG_TEST_RUN` fits in a page.
const TEST_PACKET_SIZE_MAX: usize = 4096;

/// The loaded program with its maps.
pub(crate) struct Datapath {
    // Dropped first: the links go before the maps.
    ebpf: Ebpf,
    bans_v4: MapData,
    bans_v6: MapData,
    allow_v4: MapData,
    allow_v6: MapData,
    verdicts: PerCpuArray<MapData, CounterValue>,
    attached: Vec<Attached>,
    _samples: Option<Samples>,
}

/// A pair of maps, one a family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table {
    Bans,
    Allowed,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct CounterValue(weir_abi::Counter);

// SAFETY: two u64 in a repr(C) struct: no padding, and any bytes are a value.
unsafe impl Pod for CounterValue {}

impl Datapath {
    /// Loads the program, with room for so many bans a family.
    pub(crate) fn load(capacity: u32, log: LogLevel) -> Result<Self, Error> {
        const ATTEMPT: &str = "load the XDP program";
        let sample_every = if log == LogLevel::Debug { SAMPLE_EVERY } else { 0 };
        let allowed = u32::try_from(ALLOWED_MAX).unwrap_or(u32::MAX);
        let mut ebpf = EbpfLoader::new()
            .override_global("SAMPLE_EVERY", &sample_every, true)
            .map_max_entries("BANS_V4", capacity)
            .map_max_entries("BANS_V6", capacity)
            .map_max_entries("ALLOW_V4", allowed)
            .map_max_entries("ALLOW_V6", allowed)
            .load(OBJECT)
            .map_err(|error| Error::of(ATTEMPT, &error))?;
        program(&mut ebpf)?.load().map_err(|error| Error::of(ATTEMPT, &error))?;
        let samples = if sample_every > 0 { Some(Samples::start(&mut ebpf)?) } else { None };
        let verdicts = PerCpuArray::try_from(take(&mut ebpf, "VERDICTS")?)
            .map_err(|error| Error::of(ATTEMPT, &error))?;
        Ok(Self {
            bans_v4: trie(&mut ebpf, "BANS_V4")?,
            bans_v6: trie(&mut ebpf, "BANS_V6")?,
            allow_v4: trie(&mut ebpf, "ALLOW_V4")?,
            allow_v6: trie(&mut ebpf, "ALLOW_V6")?,
            verdicts,
            ebpf,
            attached: Vec::new(),
            _samples: samples,
        })
    }

    /// Attaches to every interface, or to none: what was attached goes when `self` is dropped.
    pub(crate) fn attach(&mut self, settings: &weir_model::Kernel) -> Result<(), Error> {
        for name in &settings.interfaces {
            let mode = self.attach_one(name, settings.mode)?;
            self.attached.push(Attached { name: name.clone(), mode });
        }
        Ok(())
    }

    fn attach_one(&mut self, name: &str, mode: KernelMode) -> Result<AttachMode, Error> {
        if nix::net::if_::if_nametoindex(name).is_err() {
            let known = nix::net::if_::if_nameindex().map_or(String::new(), |known| {
                let names = known.iter().map(|known| known.name().to_string_lossy().into_owned());
                names.collect::<Vec<_>>().join(", ")
            });
            return Err(Error::NoInterface { name: name.to_owned(), known });
        }
        let program = program(&mut self.ebpf)?;
        if mode != KernelMode::Generic {
            match program.attach(name, XdpMode::Driver) {
                Ok(_) => return Ok(AttachMode::Driver),
                Err(error) if would_fail_again(&error) => return Err(attach_error(name, &error)),
                // It has no XDP, or wants a smaller MTU or fewer queues.
                Err(error) if mode == KernelMode::Driver => {
                    let cause = innermost(&error);
                    return Err(Error::NoDriverMode { name: name.to_owned(), cause });
                }
                Err(error) => {
                    let cause = innermost(&error);
                    tracing::info!("XDP on {name}: its driver refuses ({cause}); trying generic");
                }
            }
        }
        match program.attach(name, XdpMode::Skb) {
            Ok(_) => Ok(AttachMode::Generic),
            Err(error) => Err(attach_error(name, &error)),
        }
    }

    pub(crate) fn interfaces(&self) -> &[Attached] {
        &self.attached
    }

    /// Adds prefixes; on an error none of them is there. None may have been there before.
    pub(crate) fn insert(&self, table: Table, cidrs: &[Cidr]) -> Result<(), Error> {
        let Keys { v4, v6 } = keys(cidrs);
        let (map_v4, map_v6) = self.maps(table);
        let inserted = batch::update(map_v4, &v4).and_then(|()| batch::update(map_v6, &v6));
        inserted.map_err(|error| {
            // Key by key: a batch ends at the first key that was not reached.
            v4.iter().for_each(|key| drop(batch::delete(map_v4, &[*key])));
            v6.iter().for_each(|key| drop(batch::delete(map_v6, &[*key])));
            Error::of(format!("write {} prefixes to the kernel", cidrs.len()), &error)
        })
    }

    /// Removes prefixes, all of which are there.
    pub(crate) fn remove(&self, table: Table, cidrs: &[Cidr]) -> Result<(), Error> {
        let Keys { v4, v6 } = keys(cidrs);
        let (map_v4, map_v6) = self.maps(table);
        let removed = batch::delete(map_v4, &v4).and_then(|()| batch::delete(map_v6, &v6));
        removed.map_err(|error| {
            Error::of(format!("remove {} prefixes from the kernel", cidrs.len()), &error)
        })
    }

    fn maps(&self, table: Table) -> (&MapData, &MapData) {
        match table {
            Table::Bans => (&self.bans_v4, &self.bans_v6),
            Table::Allowed => (&self.allow_v4, &self.allow_v6),
        }
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

    pub(crate) fn test_run(&self, packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        let attempt = || format!("run the XDP program on {} bytes", packet.len());
        let program = self.ebpf.program(PROGRAM).ok_or_else(|| missing(PROGRAM))?;
        let program: &Xdp = program.try_into().map_err(|error| Error::of(attempt(), &error))?;
        let mut out = vec![0; TEST_PACKET_SIZE_MAX];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).map_err(|error| Error::of(attempt(), &error))?;
        out.truncate(usize::try_from(result.data_size_out).unwrap_or(0));
        Ok((result.return_value, out))
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = ebpf.program_mut(PROGRAM).ok_or_else(|| missing(PROGRAM))?;
    program.try_into().map_err(|error: ProgramError| Error::of("load the XDP program", &error))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, Error> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

fn trie(ebpf: &mut Ebpf, name: &str) -> Result<MapData, Error> {
    match take(ebpf, name)? {
        Map::LpmTrie(map) => Ok(map),
        _ => Err(missing(name)),
    }
}

fn missing(name: &str) -> Error {
    let cause = format!("the embedded object has no `{name}`");
    Error::Kernel { attempt: "load the XDP program".to_owned(), cause }
}

/// The keys of a pair of maps.
#[derive(Default)]
struct Keys {
    v4: Vec<Key<[u8; 4]>>,
    v6: Vec<Key<[u8; 16]>>,
}

fn keys(cidrs: &[Cidr]) -> Keys {
    let mut keys = Keys::default();
    for cidr in cidrs {
        let length = u32::from(cidr.length());
        match cidr.address() {
            IpAddr::V4(address) => keys.v4.push(Key::new(length, address.octets())),
            IpAddr::V6(address) => keys.v6.push(Key::new(length, address.octets())),
        }
    }
    keys
}

/// Whether generic mode would meet the same error.
fn would_fail_again(error: &ProgramError) -> bool {
    [libc::EBUSY, libc::EEXIST, libc::EPERM].into_iter().any(|errno| is_errno(error, errno))
}

fn attach_error(name: &str, error: &ProgramError) -> Error {
    if is_errno(error, libc::EBUSY) || is_errno(error, libc::EEXIST) {
        return Error::Occupied { name: name.to_owned() };
    }
    Error::of(format!("attach XDP to {name}"), error)
}

fn is_errno(error: &ProgramError, errno: i32) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            return io.raw_os_error() == Some(errno);
        }
        source = current.source();
    }
    false
}
