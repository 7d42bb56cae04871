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
    /// Since when.
    pub created: SystemTime,
    /// When it ends; `None` is until it is deleted.
    pub expires: Option<SystemTime>,
    /// Its packets are counted, but not dropped.
    pub dry_run: bool,
    /// It drops even what is protected.
    pub forced: bool,
}

impl Ban {
    /// A ban without reason and end.
    #[must_use]
    pub fn new(cidr: Cidr, origin: BanOrigin, created: SystemTime) -> Self {
        let (reason, expires) = (String::new(), None);
        Self { cidr, origin, reason, created, expires, dry_run: false, forced: false }
    }
}

/// Who asked for a ban.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BanOrigin {
    /// Typed by the operator: `weir ban add`.
    Operator,
    /// Asked for over the admin API's TCP port.
    Api,
    /// What layer 7 found out about a client: the rule's name.
    Rule(String),
    /// A line of a list that was loaded: the list's name.
    List(String),
}

impl BanOrigin {
    /// What is printed before the name of a rule.
    pub const RULE: &str = "rule ";
    /// What is printed before the name of a list.
    pub const LIST: &str = "list ";
}

impl fmt::Display for BanOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Api => f.write_str("api"),
            Self::Rule(name) => write!(f, "{}{name}", Self::RULE),
            Self::List(name) => write!(f, "{}{name}", Self::LIST),
        }
    }
}

impl From<&str> for BanOrigin {
    /// Reads what `Display` writes; what is nothing of it is a list's name.
    fn from(text: &str) -> Self {
        match text {
            "operator" => Self::Operator,
            "api" => Self::Api,
            _ => match (text.strip_prefix(Self::RULE), text.strip_prefix(Self::LIST)) {
                (Some(name), _) => Self::Rule(name.to_owned()),
                (None, name) => Self::List(name.unwrap_or(text).to_owned()),
            },
        }
    }
}
