//! A ban: a source prefix that the kernel drops.

use std::fmt;
use std::time::SystemTime;

use crate::Cidr;

/// A source prefix dropped by the kernel, with why, by whom and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Which sources.
    pub cidr: Cidr,
    /// Who asked for it.
    pub origin: BanOrigin,
    /// Why, in the words of who asked; may be empty.
    pub reason: String,
    /// When it ends; `None` is until it is deleted.
    pub expires: Option<SystemTime>,
}

/// Who asked for a ban.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BanOrigin {
    /// Typed by the operator: `weir ban add` or the admin API.
    Operator,
    /// A line of a list that was loaded: the list's name.
    List(String),
}

impl fmt::Display for BanOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::List(name) => write!(f, "list {name}"),
        }
    }
}
