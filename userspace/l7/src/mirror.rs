//! Copies of requests to another service, whose answers nobody waits for.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::task::spawn_local;
use weir_model::Route;

use crate::client::{self, Client};
use crate::connection::Arrived;
use crate::pipe::pipe;
use crate::request_body::BodyPlace;
use crate::snapshot::Snapshot;
use crate::stream::Stream;

/// Copies on their way from one reactor; above that none are made.
const UNDER_WAY_MAX: usize = 1024;
/// Bytes that the requests among them take up.
const UNDER_WAY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Sends a copy where the route asks for one. A request whose body is still on its way is not copied:
/// `buffer-request` gathers bodies.
pub(crate) fn copy(client: &Client, snapshot: &Snapshot, route: &Route) {
    let Some(mirror) = route.mirror else { return };
    let reactor = &client.reactor;
    if reactor.draw() % 10_000 >= u64::from(mirror.basis_points) {
        return;
    }
    let BodyPlace::Whole(size) = client.body else {
        return reactor.counters.not_mirrored.add(1);
    };
    let is_known = snapshot.service_at(mirror.service).is_some();
    let bytes = client.input.data().get(..client.request.length + size).unwrap_or_default();
    let (copies, held) = (reactor.mirroring.get(), reactor.mirroring_bytes.get() + bytes.len());
    let has_room = copies < UNDER_WAY_MAX && held <= UNDER_WAY_BYTES_MAX;
    if !is_known || !has_room || client.request.upgrade.is_some() {
        return reactor.counters.not_mirrored.add(1);
    }
    let mut input = reactor.buffers.buffer();
    input.extend(bytes);
    reactor.counters.mirrored.add(1);
    let size = bytes.len();
    reactor.mirroring.set(copies + 1);
    reactor.mirroring_bytes.set(held);
    let (ours, theirs) = pipe();
    let arrived = Arrived { stream: Stream::Pipe(theirs), side: client.side.clone(), input };
    let (reactor, listener) = (Rc::clone(reactor), Rc::clone(&client.listener));
    spawn_local(async move {
        let shared = Rc::clone(&reactor);
        ours.shutdown();
        let mut exchange = pin!(client::serve_for(reactor, listener, arrived, mirror.service));
        poll_fn(|context| {
            // Whatever is answered is read, so that it is not in the way.
            while let Poll::Ready(Ok(bytes)) = ours.poll_take(context) {
                if bytes.is_empty() {
                    break;
                }
            }
            exchange.as_mut().poll(context)
        })
        .await;
        shared.mirroring.set(shared.mirroring.get() - 1);
        shared.mirroring_bytes.set(shared.mirroring_bytes.get() - size);
    });
}
