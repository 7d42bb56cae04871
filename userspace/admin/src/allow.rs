//! `/allow`: sources that no ban touches.

use std::time::Instant;

use hyper::Method;
use weir_l4::Kernel;

use crate::api::{Changed, Page};
use crate::bans::{change, milliseconds, refused, with_kernel};
use crate::endpoint::{Answer, Endpoint, Port, at_once};

pub(crate) const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/allow",
    port: Port::Admin,
    summary: "every allowed prefix",
    answer: |running, _| {
        at_once(with_kernel(&running, |kernel| {
            let allowed = kernel.allowed();
            let data: Vec<_> = allowed.iter().map(ToString::to_string).collect();
            Ok(Answer::json(&Page { data, next: None }))
        }))
    },
};

pub(crate) const POST: Endpoint = Endpoint {
    method: Method::POST,
    path: "/allow",
    port: Port::Admin,
    summary: "allow the prefixes of a JSON object",
    answer: |running, request| {
        at_once(with_kernel(&running, |kernel| {
            let began = Instant::now();
            let (_, cidrs) = change(&request)?;
            let changed = kernel.allow(&cidrs).map_err(refused)?;
            Ok(told(kernel, &changed, began))
        }))
    },
};

pub(crate) const DELETE: Endpoint = Endpoint {
    method: Method::DELETE,
    path: "/allow",
    port: Port::Admin,
    summary: "allow exactly these prefixes no more",
    answer: |running, request| {
        at_once(with_kernel(&running, |kernel| {
            let began = Instant::now();
            let (_, cidrs) = change(&request)?;
            let changed = kernel.disallow(&cidrs).map_err(refused)?;
            Ok(told(kernel, &changed, began))
        }))
    },
};

fn told(kernel: &Kernel, changed: &weir_l4::Changed, began: Instant) -> Answer {
    Answer::json(&Changed {
        added: changed.added,
        removed: changed.removed,
        total: kernel.allowed().len(),
        duplicates: 0,
        covered: 0,
        skipped: 0,
        skipped_lines: Vec::new(),
        milliseconds: milliseconds(began),
    })
}
