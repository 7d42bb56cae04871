//! The flood guard in force: rates in, modes out, and what the kernel needs for cookies.

mod maps;
mod sysctl;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use weir_abi::guard::{Counter, KINDS, Mode, Place, State, Switch, masks};
use weir_guard::{Machine, Meter, Seen, Setting, level};
use weir_model::{Cidr, Guard, RuleMode, SynGuard};

use crate::{GuardChange, GuardStats, Guarded, GuardedStats};
pub(crate) use maps::Maps;
use sysctl::Sysctls;

/// So many are looked at each time, whatever comes.
const FEW: usize = 256;
/// Seconds of a step of challenges.
const STEP: u64 = 8;
/// A cookie that is on its way when the last attack ends must still find the kernel as it was made for.
const LINGER: Duration = Duration::from_secs(5);
/// What SYN-ACKs offer where nothing is known of an interface.
const MTU_DEFAULT: u32 = 1_500;
/// A tick of the program's clock, 2^30 ns, is about a second.
const TICK_BITS: u32 = weir_abi::vip::TICK_BITS;

/// The guard.
pub(crate) struct Guards {
    maps: Maps,
    settings: Guard,
    guarded: Vec<Watched>,
    /// What the operator set, by name.
    overrides: HashMap<String, Setting>,
    sysctls: Sysctls,
    /// When something local was last attacked.
    needed: Option<Instant>,
    /// Of all of them together.
    meter: Meter,
    allowed: Vec<Cidr>,
    /// What was seen, and when nobody asks any more.
    learning: Option<(Seen, Instant)>,
    interfaces: Vec<String>,
    /// Told once.
    cannot_raise: bool,
}

/// One VIP or listener.
struct Watched {
    guarded: Guarded,
    machine: Machine,
    meter: Meter,
    rate: f64,
}

impl Guards {
    /// Takes over what another process left.
    pub(crate) fn new(maps: Maps, folder: Option<&Path>, interfaces: &[String]) -> Self {
        Self {
            maps,
            settings: Guard { syn: SynGuard::Off, ..Guard::default() },
            guarded: Vec::new(),
            overrides: HashMap::new(),
            sysctls: Sysctls::open(folder),
            needed: None,
            meter: Meter::default(),
            allowed: Vec::new(),
            learning: None,
            interfaces: interfaces.to_vec(),
            cannot_raise: false,
        }
    }

    /// Puts settings in force for these VIPs and listeners, and no others.
    pub(crate) fn apply(&mut self, settings: &Guard, guarded: Vec<Guarded>, now: Instant) {
        // A VIP and a listener may have the same name.
        let key = |it: &Guarded| (it.name.clone(), it.is_vip);
        let mut before: HashMap<(String, bool), Watched> =
            self.guarded.drain(..).map(|it| (key(&it.guarded), it)).collect();
        for guarded in guarded {
            let held = before.remove(&key(&guarded));
            let gone = held.iter().flat_map(|it| &it.guarded.numbers);
            for &number in gone.filter(|number| !guarded.numbers.contains(number)) {
                self.maps.set_guard(number, Mode::Off, Place::Elsewhere, 0);
            }
            let (machine, meter, rate) = match held {
                Some(held) => (held.machine, held.meter, held.rate),
                None => {
                    let mode = guarded.numbers.iter().map(|&it| self.maps.guard(it).mode).max();
                    (Machine::new(mode_of(mode.unwrap_or(0)), now), Meter::default(), 0.0)
                }
            };
            self.guarded.push(Watched { guarded, machine, meter, rate });
        }
        for number in before.values().flat_map(|it| &it.guarded.numbers) {
            self.maps.set_guard(*number, Mode::Off, Place::Elsewhere, 0);
        }
        self.overrides.retain(|name, _| self.guarded.iter().any(|it| it.guarded.name == *name));
        self.settings = settings.clone();
        self.write_state();
        for at in 0..self.guarded.len() {
            self.write(at);
        }
    }

    /// Looks at rates, changes modes; what has changed. A few times a second.
    pub(crate) fn tick(&mut self, now: Instant, wall: SystemTime) -> Vec<GuardChange> {
        self.maps.set_step(step(wall));
        if self.learning.is_some_and(|(_, until)| now >= until) {
            self.learn(None);
        }
        let rate = self.meter.look(self.maps.total().syns, now);
        // Where all of them together are too few, each is: no need to look at thousands.
        let is_quiet = self.guarded.len() > FEW
            && level(rate, self.settings.syn_rate) == Mode::Calm
            && self.learning.is_none();
        let mut changes = Vec::new();
        for at in 0..self.guarded.len() {
            changes.extend(self.look(at, is_quiet, now));
        }
        self.calm_down(now);
        changes
    }

    /// One of them: its rate, its mode.
    fn look(&mut self, at: usize, is_quiet: bool, now: Instant) -> Option<GuardChange> {
        let watched = self.guarded.get(at)?;
        let is_skipped = is_quiet && watched.machine.mode() <= Mode::Calm;
        let syns = (!is_skipped).then(|| self.counted(&watched.guarded).syns);
        let setting = self.overrides.get(&watched.guarded.name).copied().unwrap_or_default();
        let watched = self.guarded.get_mut(at)?;
        let rate = match syns {
            Some(syns) => watched.meter.look(syns, now),
            None => {
                watched.meter.forget();
                0.0
            }
        };
        watched.rate = rate;
        if let Some((seen, _)) = &mut self.learning {
            seen.syns = seen.syns.max(rate);
        }
        let before = watched.machine.on_rate(rate, &self.settings, setting, now)?;
        let change = GuardChange {
            name: watched.guarded.name.clone(),
            address: watched.guarded.address.clone(),
            from: mode_name(before),
            to: mode_name(watched.machine.mode()),
            syn_rate: rate,
        };
        self.write(at);
        Some(change)
    }

    /// Puts the kernel's switches back, when nothing local is attacked any more.
    fn calm_down(&mut self, now: Instant) {
        let is_needed =
            self.guarded.iter().any(|it| it.guarded.is_local && it.machine.mode() == Mode::Attack);
        if is_needed {
            self.needed = Some(now);
            if self.sysctls.are_raised() {
                // Somebody else may have set them meanwhile.
                self.raise();
            }
        }
        let is_over = self.needed.is_none_or(|needed| now - needed > LINGER);
        if self.sysctls.are_raised() && !is_needed && is_over {
            self.sysctls.restore();
            self.write_state();
            tracing::info!("guard: the kernel's SYN cookies and timestamps are as before");
        }
    }

    /// Writes how one is guarded.
    fn write(&mut self, at: usize) {
        let Some(watched) = self.guarded.get(at) else { return };
        let (mode, is_local) = (watched.machine.mode(), watched.guarded.is_local);
        let mode = match mode {
            Mode::Attack if is_local && !self.raise() => Mode::Watch,
            mode => mode,
        };
        let Some(watched) = self.guarded.get(at) else { return };
        let place = match (is_local, watched.guarded.is_vip) {
            (false, _) => Place::Elsewhere,
            (true, false) => Place::Here,
            (true, true) => Place::Both,
        };
        let cap = a_cpu(self.settings.vip_syn_rate);
        for &number in &watched.guarded.numbers {
            self.maps.set_guard(number, mode, place, cap);
        }
    }

    /// Has the kernel know the driver's cookies; whether it will.
    fn raise(&mut self) -> bool {
        if self.settings.dry_run {
            return true;
        }
        let was_raised = self.sysctls.are_raised();
        match self.sysctls.raise() {
            Ok(()) => {
                if !was_raised {
                    self.write_state();
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.cannot_raise, true) {
                    tracing::error!("guard: no cookies in the driver, only limits: {error}");
                }
                false
            }
        }
    }

    fn write_state(&self) {
        let held = self.maps.state();
        let settings = &self.settings;
        let keys: Vec<[u64; 2]> = settings.keys.iter().map(|key| key.0).collect();
        let key = |at: usize| keys.get(at).copied();
        let is_fresh = held.secret == 0;
        let fresh = || [random(), random()];
        let first = key(0).unwrap_or_else(|| {
            // One that another process drew goes on: what it asked is answered to us.
            if held.keys[0] == [0, 0] { fresh() } else { held.keys[0] }
        });
        let is_learning = self.learning.is_some();
        let limit = |limit: u32| if limit == 0 && is_learning { u32::MAX } else { limit };
        let [source, near, far] = settings.syn_rates;
        let limits: [u32; KINDS] = [limit(settings.source_packet_rate), limit(source), near, far];
        let ban = settings.ban.as_ref();
        let mtu = mtu(&self.interfaces);
        self.maps.set_state(&State {
            layout: 0,
            switches: self.switches(),
            step: step(SystemTime::now()),
            mss: [mtu - 40, mtu - 60],
            window_scale: sysctl::window_scale(),
            offers: sysctl::offers(),
            proven_for: ticks(settings.proven_for),
            limits,
            masks: masks(),
            fragments: a_cpu(settings.fragment_rate),
            tell_after: ban.map_or(0, |ban| ticks(ban.after).max(1)),
            secret: if is_fresh { random().max(1) } else { held.secret },
            keys: [first, key(1).unwrap_or([0, 0])],
            peaks: if is_learning { held.peaks } else { [0, 0] },
        });
    }

    fn switches(&self) -> u32 {
        let settings = &self.settings;
        let is_learning = self.learning.is_some();
        let rule = |mode: RuleMode, on: Switch, tried: Switch| match mode {
            RuleMode::Off => 0,
            RuleMode::Drop => on as u32,
            RuleMode::DryRun => on as u32 | tried as u32,
        };
        let mut switches = rule(settings.tcp_flags, Switch::TcpFlags, Switch::TryTcpFlags)
            | rule(settings.fragments, Switch::Fragments, Switch::TryFragments)
            | rule(settings.udp_reflection, Switch::Reflection, Switch::TryReflection);
        for (is_on, switch) in [
            (settings.source_packet_rate != 0 || is_learning, Switch::Packets),
            (settings.dry_run, Switch::TryAll),
            (!self.allowed.is_empty(), Switch::HasAllowed),
            (is_learning, Switch::Learn),
        ] {
            switches |= if is_on { switch as u32 } else { 0 };
        }
        switches
    }

    /// Keeps off these sources, and no others. One for which there is no room is told of once; rates are
    /// followed all the same.
    pub(crate) fn allow(&mut self, allowed: &[Cidr]) {
        if allowed == self.allowed {
            return;
        }
        let before = std::mem::take(&mut self.allowed);
        for &cidr in before.iter().filter(|cidr| !allowed.contains(cidr)) {
            // One that is not there needs not to be removed.
            let _ = self.maps.allow(cidr, false);
        }
        for &cidr in allowed.iter().filter(|cidr| !before.contains(cidr)) {
            if let Err(error) = self.maps.allow(cidr, true) {
                tracing::error!("{error}");
                break;
            }
        }
        self.allowed = allowed.to_vec();
        self.write_state();
    }

    /// What the operator wants of one; false if there is none of this name.
    pub(crate) fn set(&mut self, name: &str, setting: Setting) -> bool {
        if self.guarded.iter().all(|it| it.guarded.name != name) {
            return false;
        }
        self.overrides.insert(name.to_owned(), setting);
        true
    }

    /// Begins to note the most that is seen, for no longer than that, or ends it; what was seen so far.
    pub(crate) fn learn(&mut self, until: Option<Instant>) -> Option<Seen> {
        let seen = self.learning.take().map(|(mut seen, _)| {
            [seen.source_packets, seen.source_syns] = self.maps.state().peaks;
            seen
        });
        self.learning = until.map(|until| (seen.unwrap_or_default(), until));
        self.write_state();
        seen
    }

    /// Sources that have stayed over a limit since the last call.
    pub(crate) fn offenders(&mut self) -> Vec<Cidr> {
        self.maps.offenders()
    }

    pub(crate) fn stats(&self, now: Instant) -> GuardStats {
        let one = |it: &Watched| {
            let counted = self.counted(&it.guarded);
            GuardedStats {
                name: it.guarded.name.clone(),
                address: it.guarded.address.clone(),
                is_local: it.guarded.is_local,
                is_vip: it.guarded.is_vip,
                mode: mode_name(it.machine.mode()),
                setting: self.overrides.get(&it.guarded.name).copied().unwrap_or_default().name(),
                since: now.saturating_duration_since(it.machine.since()),
                syn_rate: it.rate,
                syns: counted.syns,
                answered: counted.answered,
                proven: counted.proven,
                dropped: counted.dropped,
            }
        };
        let tried = self.maps.tried().into_iter().filter(|(_, count)| *count > 0);
        GuardStats {
            guarded: self.guarded.iter().map(one).collect(),
            tried: tried.map(|(verdict, count)| (verdict.reason(), count)).collect(),
            dry_run: self.settings.dry_run,
            is_raised: self.sysctls.are_raised(),
        }
    }

    fn counted(&self, guarded: &Guarded) -> Counter {
        let mut sum = Counter::default();
        for counter in guarded.numbers.iter().map(|&number| self.maps.counter(number)) {
            sum.syns += counter.syns;
            sum.answered += counter.answered;
            sum.proven += counter.proven;
            sum.dropped += counter.dropped;
        }
        sum
    }

    /// For a stop after which nothing of ours runs in the kernel.
    pub(crate) fn restore(&mut self) {
        if self.sysctls.are_raised() {
            self.sysctls.restore();
        }
    }
}

fn mode_of(number: u32) -> Mode {
    [Mode::Calm, Mode::Watch, Mode::Attack]
        .into_iter()
        .find(|mode| *mode as u32 == number)
        .unwrap_or(Mode::Calm)
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Calm => "calm",
        Mode::Watch => "watch",
        Mode::Attack => "attack",
    }
}

fn step(wall: SystemTime) -> u32 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() / STEP) as u32
}

fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos() >> TICK_BITS).unwrap_or(u32::MAX)
}

/// A CPU's share of a rate.
fn a_cpu(rate: u32) -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    rate.div_ceil(u32::try_from(cpus).unwrap_or(1))
}

/// The least of these interfaces.
fn mtu(interfaces: &[String]) -> u32 {
    let read = |name: &String| {
        let text = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?;
        text.trim().parse::<u32>().ok()
    };
    let least = interfaces.iter().filter_map(read).min();
    least.unwrap_or(MTU_DEFAULT).clamp(576, 9_000)
}

/// A number that nobody can guess.
fn random() -> u64 {
    use std::io::Read;
    let mut bytes = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if read.is_err() {
        // The standard library's hasher has a random key, too.
        use std::hash::{BuildHasher, RandomState};
        return RandomState::new().hash_one(1);
    }
    u64::from_ne_bytes(bytes)
}
