//! Connections that are passed on as they come: TCP listeners, and TLS that a backend terminates.

use std::rc::Rc;

use weir_balance::Outcome;
use weir_net::client_hello;

use crate::attempts::{Attempts, Wanted};
use crate::buffer::Buffer;
use crate::connection::Arrived;
use crate::io::{Wait, read};
use crate::outlet::{self, Half};
use crate::reactor::Reactor;
use crate::refusal::Refusal;
use crate::route::hash_address;
use crate::snapshot::Service;
use crate::stream::Stream;
use crate::timers::Timer;

/// Serves a connection of which everything goes to one service.
pub(crate) async fn serve(reactor: Rc<Reactor>, arrived: Arrived, service: usize) {
    let snapshot = reactor.snapshot();
    match snapshot.service_at(service) {
        Some(service) => pass(&reactor, arrived, service).await,
        None => refuse(&reactor, arrived, Refusal::NoRoute),
    }
}

/// Serves a connection that the name in its first message leads to a service.
pub(crate) async fn serve_by_name(reactor: Rc<Reactor>, mut arrived: Arrived, timer: &Timer) {
    let hello = match read_hello(&arrived.stream, &mut arrived.input, timer).await {
        Ok(hello) => hello,
        Err(refusal) => return refuse(&reactor, arrived, refusal),
    };
    let snapshot = reactor.snapshot();
    let source = arrived.side.source();
    let name = hello.server_name.as_deref();
    match snapshot.passthrough(name, source, reactor.draw()) {
        Some(service) => pass(&reactor, arrived, service).await,
        None => refuse(&reactor, arrived, Refusal::NoRoute),
    }
}

async fn read_hello(
    stream: &Stream,
    input: &mut Buffer,
    timer: &Timer,
) -> Result<client_hello::ClientHello, Refusal> {
    loop {
        if let Some(hello) = client_hello::peek(input.data()).map_err(|_| Refusal::TlsHandshake)? {
            return Ok(hello);
        }
        if input.data().len() == input.capacity() {
            input.grow((input.capacity() * 2).max(client_hello::HELLO_SIZE_MAX));
        }
        match read(stream, input.space(), timer, Wait::Armed).await {
            Ok(count) if count > 0 => input.filled(count),
            _ => return Err(Refusal::HeaderTimeout),
        }
    }
}

async fn pass(reactor: &Rc<Reactor>, arrived: Arrived, service: &Service) {
    let Arrived { stream, side, input } = arrived;
    let wanted = Wanted { hash: Some(hash_address(side.source())), sticky: None };
    let mut attempts = Attempts::new(service, wanted, &side).unpooled();
    let backend = match attempts.connect(reactor).await {
        Ok(backend) => backend,
        Err(refusal) => {
            reactor.counters.refused(refusal);
            return stream.reset();
        }
    };
    backend.open.backend().count_request();
    // That it was reached is all that is known of it here.
    backend.watch.stop();
    let latency = backend.watch.took();
    attempts.tell(reactor, backend.open.backend(), Outcome::Success { latency });
    reactor.counters.relayed.add(1);
    let timer = reactor.timers.timer();
    let client = Half { stream, read: input };
    let idle = service.timeouts.idle;
    let (kept, open) = (backend.kept, backend.open);
    let half = Half { stream: kept.stream, read: reactor.buffers.buffer() };
    outlet::run(&reactor.outlet, client, half, &timer, idle).await;
    drop((open, kept._slot));
}

/// There is nobody to tell but the connection itself.
fn refuse(reactor: &Reactor, arrived: Arrived, refusal: Refusal) {
    reactor.counters.refused(refusal);
    arrived.stream.reset();
}
