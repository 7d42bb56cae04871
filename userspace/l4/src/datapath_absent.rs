//! A build without the kernel side: there is no datapath, and never will be a value of it.

use weir_model::{Cidr, LogLevel};

use crate::{Attached, Counter, Error};

/// Has no values.
pub(crate) enum Datapath {}

/// A pair of maps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table {
    Bans,
    Allowed,
}

impl Datapath {
    pub(crate) fn load(_capacity: u32, _log: LogLevel) -> Result<Self, Error> {
        Err(Error::Absent)
    }

    pub(crate) fn attach(&mut self, _settings: &weir_model::Kernel) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn interfaces(&self) -> &[Attached] {
        match *self {}
    }

    pub(crate) fn insert(&self, _table: Table, _cidrs: &[Cidr]) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn remove(&self, _table: Table, _cidrs: &[Cidr]) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn counters(&self) -> Result<Vec<Counter>, Error> {
        match *self {}
    }

    pub(crate) fn test_run(&self, _packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        match *self {}
    }
}
