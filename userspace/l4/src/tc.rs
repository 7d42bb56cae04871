//! Programs in the network stack (tc).

use aya::programs::SchedClassifier;
use aya::programs::tc::{TcAttachType, qdisc_add_clsact};

use crate::Error;

/// Attaches a loaded program to one side of these interfaces.
pub(crate) fn attach(
    program: &mut SchedClassifier,
    interfaces: &[String],
    side: TcAttachType,
) -> Result<(), Error> {
    for interface in interfaces {
        // Kernels before 6.6 want a place for it; where there is one already that is no error.
        let _ = qdisc_add_clsact(interface);
        let attached = program.attach(interface, side);
        attached.map_err(|error| Error::of(format!("attach to tc of {interface}"), &error))?;
    }
    Ok(())
}
