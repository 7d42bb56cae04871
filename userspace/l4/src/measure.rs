//! What the benchmark of bans needs: the ban stage beside what others use, in programs of their own.

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, Map};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};
use weir_abi::guard as guard_abi;
use weir_bans::{Address, List, Prefix, Registry};
use weir_model::Cidr;

use crate::guard::{self, Guards};
use crate::tables::{Tables, missing};
use crate::vips::Vips;
use crate::vips::maps::Maps;
use crate::{Error, GuardSetting, Wanted, batch};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-measure.o"));

/// Frames of a flood that are under way at a time.
const FLOOD_BATCH: u32 = 64;

/// The programs that are compared, with their tables.
pub struct Measured {
    ebpf: Ebpf,
    tables: Tables,
    vips: Vips,
    guards: Guards,
    attached: Option<XdpLink>,
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}

impl Measured {
    /// Loads the programs, with room for so many entries in what is compared.
    ///
    /// # Errors
    /// [`Error`]: not permitted, or the kernel does not take them.
    pub fn load(entries: u32) -> Result<Self, Error> {
        const ATTEMPT: &str = "load the measured programs";
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("TRIE", entries.max(1))
            .map_max_entries("HASH", entries.max(1))
            .load(OBJECT)
            .map_err(|error| Error::of(ATTEMPT, &error))?;
        let programs = ebpf.programs_mut();
        for (_, program) in programs {
            let program: Result<&mut Xdp, _> = program.try_into();
            let program = program.map_err(|error| Error::of(ATTEMPT, &error))?;
            program.load().map_err(|error| Error::of(ATTEMPT, &error))?;
        }
        let tables = Tables::of(&mut ebpf)?;
        let vips = Vips::new(Maps::of(&mut ebpf)?);
        let guards = Guards::new(guard::Maps::of(&mut ebpf)?, None, &[]);
        Ok(Self { ebpf, tables, vips, guards, attached: None })
    }

    /// Bans these, and nothing else.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn ban(&mut self, cidrs: &[Cidr]) -> Result<Duration, Error> {
        let began = Instant::now();
        let mut list = List::new(std::time::SystemTime::UNIX_EPOCH, false);
        cidrs.iter().for_each(|&cidr| list.push(cidr, "", None));
        list.merge();
        let mut registry = Registry::default();
        registry.put_list("measured", list);
        self.tables.replace(&registry)?;
        Ok(began.elapsed())
    }

    /// Balances these VIPs; how long it took.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn balance(&mut self, wanted: &Wanted) -> Result<Duration, Error> {
        let began = Instant::now();
        self.vips.apply(wanted, began)?;
        self.guards.apply(&wanted.guard, self.vips.guarded(), began);
        Ok(began.elapsed())
    }

    /// Has the guard of a VIP or listener be as it is set, and as the rate asks.
    pub fn guard(&mut self, name: &str, setting: GuardSetting) {
        self.guards.set(name, setting);
        self.guards.tick(Instant::now(), SystemTime::now());
    }

    /// How many sources are counted one by one, and how many have proven to be there.
    #[must_use]
    pub fn remembered_sources(&self) -> (usize, usize) {
        let heavy: Option<
            HashMap<_, [u8; size_of::<guard_abi::Key>()], [u8; size_of::<guard_abi::Bucket>()]>,
        > = self.ebpf.map("HEAVY").and_then(|map| map.try_into().ok());
        let proven: Option<HashMap<_, [u8; 16], u32>> =
            self.ebpf.map("PROVEN").and_then(|map| map.try_into().ok());
        let heavy = heavy.map_or(0, |map| map.keys().flatten().count());
        (heavy, proven.map_or(0, |map| map.keys().flatten().count()))
    }

    /// How many flows are remembered.
    #[must_use]
    pub fn remembered_flows(&self) -> usize {
        self.vips.maps.flow_count()
    }

    /// Has the programs of layer 4 take this packet, of so many flows to so many VIPs from 203.0.0.0 on
    /// (powers of two); one VIP is the packet's own.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_packet(&mut self, packet: &[u8], flows: u32, vips: u32) -> Result<(), Error> {
        let mut template = [0u64; 6];
        for (long, bytes) in template.iter_mut().zip(packet.chunks_exact(8)) {
            *long = bytes.try_into().map_or(0, u64::from_be_bytes);
        }
        let failed = |error| Error::of("set the measured packet", &error);
        let map = self.ebpf.map_mut("TEMPLATE").ok_or_else(|| missing("TEMPLATE"))?;
        let mut map: Array<_, [u64; 6]> = map.try_into().map_err(|_| missing("TEMPLATE"))?;
        map.set(0, template, 0).map_err(failed)?;
        let map = self.ebpf.map_mut("MASKS").ok_or_else(|| missing("MASKS"))?;
        let mut map: Array<_, [u32; 2]> = map.try_into().map_err(|_| missing("MASKS"))?;
        map.set(0, [flows.saturating_sub(1), vips.saturating_sub(1)], 0).map_err(failed)
    }

    /// Has the programs of the guard take this packet: a TCP header of 40 bytes and nothing behind it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_syn(&mut self, packet: &[u8]) -> Result<(), Error> {
        let mut padded = packet.to_vec();
        padded.resize(12 * 8, 0);
        let mut template = [0u64; 12];
        for (long, bytes) in template.iter_mut().zip(padded.chunks_exact(8)) {
            *long = bytes.try_into().map_or(0, u64::from_be_bytes);
        }
        let map = self.ebpf.map_mut("SYN").ok_or_else(|| missing("SYN"))?;
        let mut map: Array<_, [u64; 12]> = map.try_into().map_err(|_| missing("SYN"))?;
        map.set(0, template, 0).map_err(|error| Error::of("set the measured packet", &error))
    }

    /// Puts these into the prefix tree, in batches.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn fill_trie(&mut self, cidrs: &[Cidr]) -> Result<Duration, Error> {
        let began = Instant::now();
        let keys: Vec<Key<[u8; 4]>> = cidrs
            .iter()
            .filter_map(|&cidr| Prefix::<u32>::of(cidr))
            .map(|prefix| Key::new(u32::from(prefix.length), prefix.start.to_be_bytes()))
            .collect();
        self.fill("TRIE", &keys)?;
        Ok(began.elapsed())
    }

    /// Puts these addresses into the hash, in batches.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn fill_hash(&mut self, cidrs: &[Cidr]) -> Result<Duration, Error> {
        let began = Instant::now();
        let keys: Vec<[u8; 4]> =
            cidrs.iter().filter_map(|cidr| u32::of(cidr.address())).map(u32::to_be_bytes).collect();
        self.fill("HASH", &keys)?;
        Ok(began.elapsed())
    }

    fn fill<K: Copy>(&self, name: &str, keys: &[K]) -> Result<(), Error> {
        let Some(Map::LpmTrie(map) | Map::HashMap(map)) = self.ebpf.map(name) else {
            return Err(missing(name));
        };
        batch::update(map.fd().as_fd(), keys, &vec![1; keys.len()])
            .map_err(|error| Error::of(format!("fill {name}"), &error))
    }

    /// Nanoseconds of CPU that a program takes for a packet, everything around it included.
    ///
    /// # Errors
    /// There is no such program.
    pub fn time(&mut self, program: &str, packet: &[u8], repeat: u32) -> Result<f64, Error> {
        let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::new() };
        let began = cpu_time();
        self.run(program, options)?;
        Ok((cpu_time() - began).as_secs_f64() * 1e9 / f64::from(repeat))
    }

    /// The same by the kernel's own clock, in whole nanoseconds: what other tools tell of a program.
    ///
    /// # Errors
    /// There is no such program.
    pub fn time_by_kernel(
        &mut self,
        program: &str,
        packet: &[u8],
        repeat: u32,
    ) -> Result<f64, Error> {
        let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::new() };
        let run = self.program(program)?.test_run(options);
        let run = run.map_err(|error| Error::of(format!("run {program}"), &error))?;
        Ok(f64::from(run.duration.subsec_nanos()))
    }

    /// Sends a frame so many times out of an interface of this thread's network namespace.
    ///
    /// # Errors
    /// There is no such interface, or it does not take frames of XDP.
    pub fn flood(&mut self, interface: &str, frame: &[u8], count: u32) -> Result<Duration, Error> {
        self.flood_by("flood", interface, frame, count)
    }

    /// The same, of the flows that [`Measured::set_packet`] says.
    ///
    /// # Errors
    /// As [`Measured::flood`].
    pub fn flood_flows(
        &mut self,
        interface: &str,
        frame: &[u8],
        count: u32,
    ) -> Result<Duration, Error> {
        self.flood_by("flood_flows", interface, frame, count)
    }

    fn flood_by(
        &mut self,
        program: &str,
        interface: &str,
        frame: &[u8],
        count: u32,
    ) -> Result<Duration, Error> {
        let attempt = || format!("send frames out of {interface}");
        let index = nix::net::if_::if_nametoindex(interface);
        let index = index.map_err(|error| Error::of(attempt(), &error))?;
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let fields = [0, frame.len() as u32, 0, index, 0, 0];
        let context: Vec<u8> = fields.into_iter().flat_map(u32::to_ne_bytes).collect();
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(FLOOD_BATCH),
            ..TestRunOptions::new()
        };
        let began = Instant::now();
        self.run(program, options)?;
        Ok(began.elapsed())
    }

    /// Attaches a program of these that passes everything: what a veth needs to take frames of XDP.
    ///
    /// # Errors
    /// There is no such interface, or it has a program already.
    pub fn attach_empty(&mut self, interface: &str) -> Result<(), Error> {
        self.attach("empty", interface)
    }

    /// Attaches one of these programs, in the place of the one attached before.
    ///
    /// # Errors
    /// There is no such interface, or it has a program of somebody else.
    pub fn attach(&mut self, program: &str, interface: &str) -> Result<(), Error> {
        let failed = |error: ProgramError| Error::of(format!("attach to {interface}"), &error);
        // Dropping a link detaches what it holds.
        self.attached = None;
        let program = self.program(program)?;
        let link = program.attach(interface, aya::programs::XdpMode::Driver).map_err(failed)?;
        let link = program.take_link(link).map_err(failed)?;
        self.attached = Some(link);
        Ok(())
    }

    fn run(&mut self, program: &str, options: TestRunOptions<'_>) -> Result<(), Error> {
        let run = self.program(program)?.test_run(options);
        run.map(drop).map_err(|error| Error::of(format!("run {program}"), &error))
    }

    fn program(&mut self, name: &str) -> Result<&mut Xdp, Error> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| missing(name))?;
        program.try_into().map_err(|error| Error::of(format!("find {name}"), &error))
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
