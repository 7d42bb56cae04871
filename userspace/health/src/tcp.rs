//! The check `tcp`: a connection that opens is good.

use tokio::net::TcpStream;
use weir_model::CheckKind;

use crate::CheckSpec;

pub(crate) const SPEC: CheckSpec = CheckSpec {
    name: "tcp",
    summary: "a connection that opens is good",
    is: |kind| matches!(kind, CheckKind::Tcp),
    probe: |_, address| {
        Box::pin(async move {
            TcpStream::connect(address).await?;
            Ok(())
        })
    },
};
