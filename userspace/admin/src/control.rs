//! `POST /reload`, `POST /upgrade` and `POST /stop`: what the main loop does on request.

use std::rc::Rc;

use hyper::{Method, StatusCode};
use tokio::sync::oneshot;

use crate::api::{Done, Upgrade};
use crate::endpoint::{Answer, Endpoint, Port, Request};
use crate::{Order, Running};

pub(crate) const RELOAD: Endpoint = Endpoint {
    method: Method::POST,
    path: "/reload",
    port: Port::Admin,
    summary: "read the configuration again; it is applied in whole or refused",
    answer: |running, _| Box::pin(reload(running)),
};

pub(crate) const STOP: Endpoint = Endpoint {
    method: Method::POST,
    path: "/stop",
    port: Port::Admin,
    summary: "stop once open requests are answered; `?fast=1`: at once; `?detach=1`: bans end too",
    answer: |running, request| {
        Box::pin(stop(running, !request.flag("fast"), request.flag("detach")))
    },
};

pub(crate) const UPGRADE: Endpoint = Endpoint {
    method: Method::POST,
    path: "/upgrade",
    port: Port::Admin,
    summary: "start the binary anew and leave everything to it; over the unix socket \
              `{\"binary\": PATH}` names another",
    answer: |running, request| Box::pin(upgrade(running, request)),
};

async fn upgrade(running: Rc<Running>, request: Request) -> Answer {
    let bad = |message: String| Answer::problem(StatusCode::BAD_REQUEST, message);
    let asked = match serde_json::from_slice::<Upgrade>(&request.body) {
        _ if request.body.is_empty() => Upgrade::default(),
        Ok(asked) => asked,
        Err(error) => return bad(format!("the body is not as expected: {error}")),
    };
    // Who reaches the port may have no account on this host.
    if asked.binary.is_some() && !request.is_local {
        return bad("a binary is named over the unix socket only".to_owned());
    }
    let (done, upgraded) = oneshot::channel();
    if running.orders.send(Order::Upgrade { binary: asked.binary, done }).await.is_err() {
        return stopping();
    }
    match upgraded.await {
        Ok(Ok(done)) => Answer::json(&done),
        Ok(Err(why)) => bad(why),
        Err(_) => stopping(),
    }
}

async fn reload(running: Rc<Running>) -> Answer {
    let (done, reloaded) = oneshot::channel();
    if running.orders.send(Order::Reload { done }).await.is_err() {
        return stopping();
    }
    match reloaded.await {
        Ok(Ok(done)) => Answer::json(&done),
        Ok(Err(why)) => Answer::problem(StatusCode::BAD_REQUEST, why),
        Err(_) => stopping(),
    }
}

async fn stop(running: Rc<Running>, graceful: bool, detach: bool) -> Answer {
    if running.orders.send(Order::Stop { graceful, detach }).await.is_err() {
        return stopping();
    }
    let message = if graceful { "stopping once open requests are answered" } else { "stopping" };
    let stays = running.kernel.kernel().is_some_and(|kernel| kernel.is_pinned());
    let message = match (stays, detach) {
        (true, false) => format!("{message}; bans stay in force (`weir stop --detach` ends them)"),
        _ => message.to_owned(),
    };
    Answer::json(&Done { generation: running.generation.get(), message })
}

fn stopping() -> Answer {
    Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "weir is stopping")
}
