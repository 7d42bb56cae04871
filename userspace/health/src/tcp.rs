//! The check `tcp`: a connection that opens is good.

use weir_model::CheckKind;

use crate::CheckSpec;
use crate::check::connect;

pub(crate) const SPEC: CheckSpec = CheckSpec {
    name: "tcp",
    summary: "a connection that opens is good",
    is: |kind| matches!(kind, CheckKind::Tcp),
    probe: |_, address, mark| {
        Box::pin(async move {
            connect(address, mark).await?;
            Ok(())
        })
    },
};
