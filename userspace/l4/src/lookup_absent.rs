//! Addresses that listeners are not bound to, in a build without the kernel side: they are not served.

use weir_model::Also;

use crate::Error;
use crate::select::Group;

/// There is none.
pub struct Lookup;

impl Lookup {
    /// Attaches nothing.
    ///
    /// # Errors
    /// Always.
    pub fn attach(_: Vec<(Also, Group)>) -> Result<Self, Error> {
        Err(Error::Absent)
    }
}
