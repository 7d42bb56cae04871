//! A build without the kernel side: there is no datapath, and never will be a value of it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Instant, SystemTime};

use weir_abi::ban::Event;
use weir_bans::{Hits, Registry};
use weir_model::{Cidr, Guard, LogLevel, Tunnel};

use crate::{
    Attached, Counter, Error, Explained, FlowQuestion, GuardChange, GuardSeen, GuardSetting,
    GuardStats, Guarded, VipProbe, VipStats, Wanted,
};

/// Has no values.
pub(crate) enum Datapath {}

/// Has no values.
pub(crate) enum Tables {}

/// Has no values.
pub(crate) enum Vips {}

/// Has no values.
pub(crate) enum Guards {}

/// Has no values.
pub(crate) enum Probes {}

/// Nothing can have been left.
///
/// # Errors
/// [`Error::Absent`].
pub fn detach(_folder: &Path) -> Result<usize, Error> {
    Err(Error::Absent)
}

impl Datapath {
    pub(crate) fn load(
        _settings: &weir_model::Kernel,
        _state: Option<&Path>,
        _log: LogLevel,
    ) -> Result<(Self, Tables, Vips, Guards), Error> {
        Err(Error::Absent)
    }

    pub(crate) fn attach(&self, _settings: &weir_model::Kernel) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn unpin(&self) {
        match *self {}
    }

    pub(crate) fn is_pinned(&self) -> bool {
        match *self {}
    }

    pub(crate) fn interfaces(&self) -> Vec<Attached> {
        match *self {}
    }

    pub(crate) fn counters(&self) -> Result<Vec<Counter>, Error> {
        match *self {}
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        match *self {}
    }

    pub(crate) fn untold(&self) -> Result<(u64, u64), Error> {
        match *self {}
    }

    pub(crate) fn test_run(&self, _packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        match *self {}
    }
}

impl Guards {
    pub(crate) fn apply(&mut self, _settings: &Guard, _guarded: Vec<Guarded>, _now: Instant) {
        match *self {}
    }

    pub(crate) fn tick(&mut self, _now: Instant, _wall: SystemTime) -> Vec<GuardChange> {
        match *self {}
    }

    pub(crate) fn allow(&mut self, _allowed: &[Cidr]) {
        match *self {}
    }

    pub(crate) fn set(&mut self, _name: &str, _setting: GuardSetting) -> bool {
        match *self {}
    }

    pub(crate) fn learn(&mut self, _until: Option<Instant>) -> Option<GuardSeen> {
        match *self {}
    }

    pub(crate) fn offenders(&mut self) -> Vec<Cidr> {
        match *self {}
    }

    pub(crate) fn stats(&self, _now: Instant) -> GuardStats {
        match *self {}
    }

    pub(crate) fn restore(&mut self) {
        match *self {}
    }
}

impl Probes {
    pub(crate) fn load(_interfaces: &[String]) -> Result<Self, Error> {
        Err(Error::Absent)
    }

    pub(crate) fn set(
        &mut self,
        _wanted: &[VipProbe],
        _tunnel: &Tunnel,
    ) -> Result<Vec<u32>, Error> {
        match *self {}
    }

    pub(crate) fn taken(&self, _mark: u32) -> u64 {
        match *self {}
    }
}

impl Vips {
    pub(crate) fn apply(&mut self, _wanted: &Wanted, _now: Instant) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn tick(&mut self, _now: Instant) {
        match *self {}
    }

    pub(crate) fn guarded(&self) -> Vec<Guarded> {
        match *self {}
    }

    pub(crate) fn is_under_way(&self) -> bool {
        match *self {}
    }

    pub(crate) fn known_down(&self) -> Vec<SocketAddr> {
        match *self {}
    }

    pub(crate) fn set_local(&mut self, _name: &str, _is_local: bool) -> bool {
        match *self {}
    }

    pub(crate) fn stats(&self) -> Vec<VipStats> {
        match *self {}
    }

    pub(crate) fn explain(&self, _asked: FlowQuestion) -> Explained {
        match *self {}
    }
}

impl Tables {
    pub(crate) fn tell_time(&mut self, _now: SystemTime) {
        match *self {}
    }

    pub(crate) fn set_dry_run(&self, _is_on: bool) {
        match *self {}
    }

    pub(crate) fn set_watched(&self, _is_on: bool) {
        match *self {}
    }

    pub(crate) fn hits(&self, _cidr: Cidr) -> Hits {
        match *self {}
    }

    pub(crate) fn counted(&self) -> Vec<(Cidr, Hits)> {
        match *self {}
    }

    pub(crate) fn memory(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn usage(&self) -> (u32, u32) {
        match *self {}
    }

    pub(crate) fn replace(
        &mut self,
        _registry: &Registry,
    ) -> Result<(Vec<(Cidr, Hits)>, usize), Error> {
        match *self {}
    }

    pub(crate) fn edit(
        &mut self,
        _registry: &Registry,
        _edits: &[(Cidr, bool)],
        _now: SystemTime,
    ) -> Result<bool, Error> {
        match *self {}
    }
}
