//! Interleaved rounds of every target.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::load::Aim;
use crate::http::measure::{Measure, Round};
use crate::http::scenario::{Load, Scenario};
use crate::http::target::{Place, Target};
use crate::http::{PROXY_CORE, check, idle, median, origin};
use crate::process::{Server, Start, free_port, machine_cpu_seconds};
use crate::tools::tls;

/// Requests a second at which everyone's latency is told.
const RATE: f64 = 10_000.0;
/// Fresh servers are measured this often: memory hardly varies.
const IDLE_ROUNDS_MAX: u32 = 3;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) rounds: u32,
    pub(crate) length: Duration,
    /// Idle connections at most.
    pub(crate) idle: u32,
}

/// What was measured, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) rounds: Vec<Round>,
    /// Targets with the reason.
    pub(crate) absent: Vec<(String, String)>,
}

/// A scenario with targets that take turns.
struct Field<'a> {
    scenario: &'a Scenario,
    targets: Vec<&'a Target>,
    amount: Amount,
    folder: &'a Path,
    cert: PathBuf,
    origin: Server,
    outcome: Outcome,
}

type Runner<'a> = (&'a Target, Server);
/// What a turn shows of a server.
type Found = Result<Vec<(Measure, f64)>>;

pub(crate) fn run(scenario: &Scenario, targets: &[Target], amount: Amount) -> Result<Outcome> {
    let folder = tempfile::tempdir().context("make a folder")?;
    tls::write_certificate(folder.path())?;
    let mut field = Field {
        scenario,
        targets: targets.iter().filter(|target| target.is_in(scenario)).collect(),
        amount,
        folder: folder.path(),
        cert: folder.path().join("bench.cert"),
        origin: origin::start(scenario, folder.path())?,
        outcome: Outcome::default(),
    };
    if let Load::Idle { connections } = scenario.load {
        field.measure_idle(connections.min(amount.idle));
    } else {
        let mut servers = field.start_all();
        field.measure_cpu(&mut servers);
        if scenario.latency {
            field.measure_latency(&mut servers);
        }
        field.measure_memory(&mut servers);
    }
    Ok(field.outcome)
}

impl<'a> Field<'a> {
    fn start_all(&mut self) -> Vec<Runner<'a>> {
        let mut servers = Vec::new();
        for target in self.targets.clone() {
            match self.start(target) {
                Ok(server) => servers.push((target, server)),
                Err(error) => self.leave_out(target, &error),
            }
        }
        servers
    }

    fn start(&self, target: &Target) -> Result<Server> {
        target.install().context("cannot be fetched")?;
        let (port, folder) = (free_port()?, self.folder);
        let place = Place { folder, port, origin: self.origin.port };
        let words = target.prepare(self.scenario, place)?;
        let start = Start { name: &target.name, core: PROXY_CORE, words: &words, port, folder };
        let server = Server::start(start)?;
        check::answer(self.scenario, server.address(), &self.cert)
            .with_context(|| format!("the first answer ({})", server.last_words()))?;
        Ok(server)
    }

    fn measure_cpu(&mut self, servers: &mut Vec<Runner<'a>>) {
        // The first warms up and is not counted.
        for round in 0..=self.amount.rounds {
            self.turn(servers, round, "", &|field, server| {
                let (before, machine_before) = (server.cpu_seconds()?, machine_cpu_seconds()?);
                let count = field.aim(server).run()?;
                let used = server.cpu_seconds()? - before;
                let machine = machine_cpu_seconds()? - machine_before;
                ensure!(used > 0.0, "used no CPU that could be measured");
                let mut found = vec![(Measure::Cpu, count / used)];
                if field.scenario.system {
                    found.push((Measure::SystemCpu, count / machine));
                }
                // Remembered for half of it.
                found.push((Measure::Rate, count / field.amount.length.as_secs_f64()));
                Ok(found)
            });
        }
    }

    fn measure_latency(&mut self, servers: &mut Vec<Runner<'a>>) {
        for round in 1..=self.amount.rounds {
            self.turn(servers, round, ", latency at 10,000 a second", &|field, server| {
                Ok(vec![(Measure::P99At10k, field.aim(server).pace(RATE)?.1)])
            });
        }
        // The same for everyone: half of what the slowest did.
        let rates = servers.iter().map(|(target, _)| self.rate(target));
        let half = rates.fold(f64::INFINITY, f64::min) / 2.0;
        for round in 1..=self.amount.rounds {
            self.turn(servers, round, ", latency at half load", &|field, server| {
                let (p50, p99) = field.aim(server).pace(half)?;
                Ok(vec![(Measure::P50AtHalf, p50), (Measure::P99AtHalf, p99)])
            });
        }
    }

    /// A target's requests a second, median of its rounds.
    fn rate(&self, target: &Target) -> f64 {
        let own = self.outcome.rounds.iter().filter(|round| round.target == target.name);
        median(own.filter(|it| it.measure == Measure::Rate).map(|it| it.value).collect())
    }

    fn measure_memory(&mut self, servers: &mut Vec<Runner<'a>>) {
        self.turn(servers, 1, ", memory", &|_, server| {
            Ok(vec![(Measure::Memory, server.memory()? / f64::from(1 << 20))])
        });
    }

    /// Each round with fresh servers: memory that was used once is not given back.
    fn measure_idle(&mut self, connections: u32) {
        for round in 1..=self.amount.rounds.min(IDLE_ROUNDS_MAX) {
            for target in self.targets.clone() {
                eprintln!("bench: {}: round {round}: {}", self.scenario.name, target.name);
                let found = self.start(target).and_then(|server| {
                    idle::bytes_a_connection(self.scenario, &server, &self.cert, connections)
                        .with_context(|| server.last_words())
                });
                match found {
                    Ok(bytes) => self.keep(round, target, Measure::Connection, bytes),
                    Err(error) => self.leave_out(target, &error),
                }
            }
            let step = usize::from(!self.targets.is_empty());
            self.targets.rotate_left(step);
        }
    }

    /// One round of every server; one that fails leaves.
    fn turn(
        &mut self,
        servers: &mut Vec<Runner<'a>>,
        round: u32,
        what: &str,
        measure: &dyn Fn(&Self, &Server) -> Found,
    ) {
        let of = self.amount.rounds;
        servers.retain(|(target, server)| {
            eprintln!(
                "bench: {}: round {round} of {of}{what}: {}",
                self.scenario.name, target.name
            );
            match measure(self, server) {
                Ok(found) if round > 0 => {
                    for (measure, value) in found {
                        self.keep(round, target, measure, value);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    self.leave_out(target, &error);
                    return false;
                }
            }
            true
        });
        let step = usize::from(!servers.is_empty());
        servers.rotate_left(step);
    }

    fn keep(&mut self, round: u32, target: &Target, measure: Measure, value: f64) {
        self.outcome.rounds.push(Round { round, target: target.name.clone(), measure, value });
    }

    /// It is not measured any more, and the report tells why.
    fn leave_out(&mut self, target: &Target, error: &anyhow::Error) {
        let own_folder = format!("{}/", self.folder.display());
        let reason = format!("{error:#}").replace('\n', " ").replace(&own_folder, "");
        eprintln!("bench: {}: {} is not measured: {reason}", self.scenario.name, target.name);
        self.targets.retain(|other| other.name != target.name);
        self.outcome.rounds.retain(|round| round.target != target.name);
        self.outcome.absent.push((target.name.clone(), reason));
    }

    fn aim<'b>(&'b self, server: &Server) -> Aim<'b> {
        let Amount { length, .. } = self.amount;
        Aim { scenario: self.scenario, address: server.address(), length, cert: &self.cert }
    }
}
