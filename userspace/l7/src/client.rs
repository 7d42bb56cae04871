//! One client connection: request after request until one side has had enough.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use weir_model::{HeaderEdits, Redirect, Respond, Route, ServiceProtocol};

use crate::answer::{AnswerSide, Incoming, Passing};
use crate::buffer::{Buffer, MEDIUM, SMALL, Vectors};
use crate::connection::Arrived;
use crate::counters::Counters;
use crate::exchange;
use crate::forwarded::{self, Asker, ClientSide, Outgoing, OwnAnswer};
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::http1::scan::HeadScan;
use crate::io::{IoError, Wait, read, shutdown, write};
use crate::listener::Listener;
use crate::reactor::Reactor;
use crate::refusal::Refusal;
use crate::request_body::BodyPlace;
use crate::route::Asked;
use crate::snapshot::{Routed, Service, Serving};
use crate::stream::Stream;
use crate::timers::Timer;

/// How long, and for how many bytes, a client that was refused is listened to, so that it can read
/// why: closing at once would reset the connection and throw our answer away.
pub(crate) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const LINGER_SIZE_MAX: usize = 1024 * 1024;
/// The media type of an answer without content.
const TEXT: &str = "text/plain; charset=utf-8";
/// Empty lines before a request that are overlooked (RFC 9112 section 2.2).
const BLANK_LINES_MAX: usize = 1;

/// A client connection with what it needs from request to request.
pub(crate) struct Client {
    pub(crate) reactor: Rc<Reactor>,
    pub(crate) listener: Rc<Listener>,
    /// How the listener serves, as of the current request.
    pub(crate) serving: Rc<Serving>,
    pub(crate) side: ClientSide,
    /// The requests are copies for the service of this index.
    pub(crate) mirrors: Option<usize>,
    pub(crate) stream: Stream,
    pub(crate) timer: Timer,
    /// What was read: the head of the current request and what follows it.
    pub(crate) input: Buffer,
    pub(crate) request: RequestHead,
    pub(crate) body: BodyPlace,
    pub(crate) request_id: Vec<u8>,
    pub(crate) to_backend: Vec<u8>,
    pub(crate) from_backend: Buffer,
    pub(crate) response: ResponseHead,
    pub(crate) to_client: Vec<u8>,
    pub(crate) answer_began: Cell<bool>,
    /// How much room the next request is given at first: it may be like the last one.
    pub(crate) first_read: usize,
    served: u32,
}

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It serves another request.
    Keep,
    /// It is closed.
    Close,
    /// It is closed once the client has had time to read the answer.
    Linger,
    /// It is reset, so that nobody takes what was sent for the whole answer.
    Abort,
}

/// What came of waiting for a request.
enum Arrival {
    Request,
    Refused(Refusal),
    Gone,
}

/// The request's side of an exchange.
pub(crate) struct RequestSide<'a> {
    pub(crate) source: &'a Stream,
    pub(crate) buffer: &'a mut Buffer,
    pub(crate) head: &'a mut Vec<u8>,
}

/// Serves a connection whose requests all go to one service, whatever routes say, until it is closed.
pub(crate) async fn serve_for(
    reactor: Rc<Reactor>,
    listener: Rc<Listener>,
    arrived: Arrived,
    service: usize,
) {
    run(Client::new(reactor, listener, arrived, Some(service))).await;
}

/// What an idle connection takes up is this future and the client, so whatever else is needed is only
/// there while it is.
pub(crate) async fn run(mut client: Box<Client>) {
    let last = loop {
        let next = match client.next_request().await {
            Arrival::Request => {
                // Made in its place: `Box::pin` would copy all of it there.
                Box::into_pin(Box::write(Box::new_uninit(), exchange::serve(&mut client))).await
            }
            Arrival::Refused(refusal) => Box::pin(client.answer_unreadable(refusal)).await,
            Arrival::Gone => Next::Close,
        };
        if next != Next::Keep {
            break next;
        }
    };
    if last == Next::Linger {
        Box::pin(client.linger()).await;
    }
    match last {
        Next::Abort => client.stream.reset(),
        _ => client.stream.close(),
    }
}

impl Client {
    /// A client whose connection has been accepted.
    pub(crate) fn new(
        reactor: Rc<Reactor>,
        listener: Rc<Listener>,
        Arrived { stream, side, input }: Arrived,
        mirrors: Option<usize>,
    ) -> Box<Self> {
        Box::new(Self {
            side,
            mirrors,
            timer: reactor.timers.timer(),
            input,
            from_backend: reactor.buffers.buffer_of(MEDIUM),
            request: RequestHead::default(),
            body: BodyPlace::Whole(0),
            request_id: Vec::new(),
            to_backend: Vec::new(),
            response: ResponseHead::default(),
            to_client: Vec::new(),
            answer_began: Cell::new(false),
            first_read: SMALL,
            served: 0,
            reactor,
            serving: listener.serving(),
            listener,
            stream,
        })
    }

    /// Where what becomes of requests counts; copies count as copies alone.
    pub(crate) fn counters(&self) -> Option<&Counters> {
        self.mirrors.is_none().then_some(&*self.reactor.counters)
    }

    /// The bytes of the current request's head.
    pub(crate) fn head(&self) -> &[u8] {
        self.input.data().get(..self.request.length).unwrap_or_default()
    }

    async fn next_request(&mut self) -> Arrival {
        if self.input.is_empty() {
            self.release_memory();
            if !self.wait_for_first_byte().await {
                return Arrival::Gone;
            }
            self.lease_memory();
        }
        self.serving = self.listener.serving();
        self.timer.arm(self.serving.policy.timeouts.header);
        match self.read_head().await {
            Ok(Some(length)) => {
                let head = self.input.data().get(..length).unwrap_or_default();
                match self.request.parse(head, &self.serving.policy.limits) {
                    Ok(()) => Arrival::Request,
                    Err(refusal) => Arrival::Refused(refusal),
                }
            }
            Ok(None) => Arrival::Gone,
            Err(refusal) => Arrival::Refused(refusal),
        }
    }

    /// Holds no memory while a client thinks. False when there will be no request.
    async fn wait_for_first_byte(&mut self) -> bool {
        // A client that connects has something to say; one that was served may come back later.
        let timeouts = &self.serving.policy.timeouts;
        self.timer.arm(if self.served == 0 { timeouts.header } else { timeouts.idle });
        let mut is_capped = false;
        poll_fn(|context| {
            // The runtime may call a socket readable that is not, so only bytes count.
            if self.stream.poll_readable(context).is_ready() {
                self.input.lease(self.first_read);
                let space = self.input.space();
                if let Poll::Ready(read) = self.stream.poll_read(context, space) {
                    let count = read.unwrap_or(0);
                    self.input.filled(count);
                    return Poll::Ready(count > 0);
                }
                self.input.release();
            }
            self.timer.register(context);
            if self.listener.closing.get() && !is_capped {
                is_capped = true;
                let until = self.listener.idle_until.get();
                self.timer.arm_at_most(until.saturating_sub(self.reactor.now()));
            }
            if self.timer.fired() { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }

    /// The length of the head at the start of the input; `None` when the client closed.
    async fn read_head(&mut self) -> Result<Option<usize>, Refusal> {
        let size_max = self.serving.policy.limits.header_size;
        let (mut scan, mut blank_lines) = (HeadScan::default(), 0);
        loop {
            match scan.end(self.input.data()) {
                Err(_) => return Err(Refusal::BadRequest("line ends without carriage return")),
                Ok(Some(2)) if blank_lines < BLANK_LINES_MAX => {
                    blank_lines += 1;
                    self.input.consume(2);
                    scan = HeadScan::default();
                    continue;
                }
                Ok(Some(length)) if length <= size_max => return Ok(Some(length)),
                Ok(None) if self.input.data().len() < size_max => {}
                Ok(_) => return Err(Refusal::HeaderTooLarge),
            }
            let held = self.input.data().len();
            if held > 0 && held == self.input.capacity() {
                self.input.grow((held * 2).min(weir_model::Limits::HEADER_SIZE_MAX));
            }
            match read(&self.stream, self.input.space(), &self.timer, Wait::Armed).await {
                Ok(0) => return Ok(None),
                Ok(count) => self.input.filled(count),
                Err(IoError::TimedOut) => return Err(Refusal::HeaderTimeout),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Settles, before anything may refuse it, what belongs to this request: its id and its body.
    pub(crate) fn begin_exchange(&mut self) -> Result<(), Refusal> {
        let head = self.input.data().get(..self.request.length).unwrap_or_default();
        let random = || self.reactor.random();
        forwarded::set_request_id(Some((&self.request, head)), random, &mut self.request_id);
        self.answer_began.set(false);
        self.find_body()
    }

    /// Writes down the head as the backend gets it.
    pub(crate) fn append_request(&mut self, service: &Service, routed: Routed<'_>) {
        let head = self.input.data().get(..self.request.length).unwrap_or_default();
        self.to_backend.clear();
        let outgoing = Outgoing {
            request: &self.request,
            head,
            client: &self.side,
            id: &self.request_id,
            to_http2: service.protocol == ServiceProtocol::Http2,
            routed: Some(routed).filter(|routed| changes_request(routed.route)),
        };
        forwarded::append_request(outgoing, &mut self.to_backend);
        if self.body == BodyPlace::Streaming {
            self.input.consume(self.request.length);
            // A buffer for a head alone is too small for the body.
            self.input.prefer(SMALL);
        }
    }

    /// Whether the request may be sent again although a backend may have acted on it.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.request.is_idempotent && self.body != BodyPlace::Streaming
    }

    /// The two directions of an exchange, to be driven at the same time.
    pub(crate) fn sides<'a>(
        &'a mut self,
        source: &'a Stream,
        service: &Service,
        sent: &'a Cell<bool>,
    ) -> (RequestSide<'a>, Incoming<'a>, AnswerSide<'a>) {
        // An answer of ours may stand there still.
        self.to_client.clear();
        let keep_alive = self.request.keep_alive && !self.is_last();
        let request = RequestSide {
            source: &self.stream,
            buffer: &mut self.input,
            head: &mut self.to_backend,
        };
        let incoming = Incoming {
            source,
            buffer: &mut self.from_backend,
            response: &mut self.response,
            timer: &self.timer,
            upgrades: self.request.upgrade.is_some(),
            timeout: service.head_timeout(),
            sent,
        };
        let answer = AnswerSide {
            sink: &self.stream,
            out: &mut self.to_client,
            version: self.request.version,
            to_head_request: self.request.is_head,
            write_timeout: self.serving.policy.timeouts.write,
            keep_alive,
            began: &self.answer_began,
            passing: Passing::default(),
        };
        (request, incoming, answer)
    }

    /// The connection itself, for whoever goes on with it; what is left here is closed.
    pub(crate) fn take_stream(&mut self) -> Stream {
        std::mem::replace(&mut self.stream, Stream::closed())
    }

    /// What was read behind the current request.
    pub(crate) fn take_input(&mut self) -> Buffer {
        std::mem::replace(&mut self.input, self.reactor.buffers.buffer())
    }

    /// The current request as routes see it.
    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked {
            request: &self.request,
            head: self.head(),
            source: self.side.source(),
            server_name: self.side.server_name.as_deref(),
        }
    }

    /// The current request is done with.
    pub(crate) fn consume_request(&mut self) {
        self.served = self.served.saturating_add(1);
        if let BodyPlace::Whole(size) = self.body {
            self.input.consume(self.request.length + size);
        }
    }

    /// Answers a request ourselves: the only place where a refusal becomes bytes.
    pub(crate) async fn answer(&mut self, refusal: Refusal) -> Next {
        if let Some(counters) = self.counters() {
            counters.refused(refusal);
        }
        self.say(refusal.closes(), |asker, out| forwarded::append_refusal(refusal, asker, out))
            .await
    }

    /// Sends the client elsewhere.
    pub(crate) async fn redirect(
        &mut self,
        redirect: &Redirect,
        edits: Option<&HeaderEdits>,
    ) -> Next {
        let asked = self.asked();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let query = match asked.query() {
            b"" => String::new(),
            query => format!("?{}", text(query)),
        };
        let to = redirect
            .to
            .replace("{scheme}", self.side.scheme.name())
            .replace("{host}", &text(asked.host()))
            .replace("{path}", &text(asked.path()))
            .replace("{query}", &query);
        self.reactor.counters.own.add(1);
        let (status, field) = (redirect.status, Some(("location", to.as_str())));
        let answer = OwnAnswer { status, content_type: TEXT, field, body: b"", edits };
        self.say(false, |asker, out| forwarded::append_own(answer, asker, out)).await
    }

    /// Answers as a route says.
    pub(crate) async fn respond(&mut self, respond: &Respond, edits: Option<&HeaderEdits>) -> Next {
        self.reactor.counters.own.add(1);
        let (status, body) = (respond.status, respond.body.as_bytes());
        let content_type = &respond.content_type;
        let answer = OwnAnswer { status, content_type, field: None, body, edits };
        self.say(false, |asker, out| forwarded::append_own(answer, asker, out)).await
    }

    /// Writes an answer of ours; `closes` is whether nothing more may be read from the client.
    async fn say(&mut self, closes: bool, append: impl FnOnce(Asker<'_>, &mut Vec<u8>)) -> Next {
        let whole = matches!(self.body, BodyPlace::Whole(_)) && !closes;
        let keep_alive = whole && self.request.keep_alive && !self.is_last();
        self.to_client.clear();
        let asker = Asker {
            request_id: &self.request_id,
            version: self.request.version,
            is_head: self.request.is_head,
            keep_alive,
        };
        append(asker, &mut self.to_client);
        let wait = Wait::AtMost(self.serving.policy.timeouts.write);
        if write(&self.stream, &self.to_client, &[], &self.timer, wait).await.is_err() {
            return Next::Close;
        }
        self.consume_request();
        match (keep_alive, whole) {
            (true, _) => Next::Keep,
            (false, true) => Next::Close,
            (false, false) => Next::Linger,
        }
    }

    /// Answers a request whose head could not be read.
    async fn answer_unreadable(&mut self, refusal: Refusal) -> Next {
        self.reactor.counters.requests.add(1);
        self.request = RequestHead::default();
        self.body = BodyPlace::Streaming;
        let random = || self.reactor.random();
        forwarded::set_request_id(None, random, &mut self.request_id);
        self.answer(refusal).await
    }

    /// Closes our direction and reads on for a while, so that our last answer arrives.
    async fn linger(&mut self) {
        self.timer.arm(LINGER_TIMEOUT);
        if shutdown(&self.stream, &self.timer).await.is_err() {
            return;
        }
        let mut discarded = 0;
        while discarded < LINGER_SIZE_MAX {
            self.input.consume(usize::MAX / 2);
            match read(&self.stream, self.input.space(), &self.timer, Wait::Armed).await {
                Ok(count) if count > 0 => discarded += count,
                _ => return,
            }
        }
    }

    /// Whether the current request is the last one of its connection, whatever the client wishes.
    fn is_last(&self) -> bool {
        let is_spent = self
            .serving
            .policy
            .limits
            .requests
            .is_some_and(|max| u64::from(self.served) + 1 >= max);
        is_spent || self.reactor.draining.get() || self.listener.closing.get()
    }

    fn release_memory(&mut self) {
        self.input.reset();
        self.from_backend.consume(usize::MAX / 2);
        self.from_backend.reset();
        self.timer.disarm();
        self.reactor.vectors.put(Vectors {
            to_backend: std::mem::take(&mut self.to_backend),
            to_client: std::mem::take(&mut self.to_client),
            request_id: std::mem::take(&mut self.request_id),
            request_fields: std::mem::take(&mut self.request.fields),
            response_fields: std::mem::take(&mut self.response.fields),
        });
    }

    /// What a request needs, used before by others.
    fn lease_memory(&mut self) {
        let Some(vectors) = self.reactor.vectors.take() else { return };
        self.to_backend = vectors.to_backend;
        self.to_client = vectors.to_client;
        self.request_id = vectors.request_id;
        self.request.fields = vectors.request_fields;
        self.response.fields = vectors.response_fields;
    }
}

/// Whether a route has the head of a request written anew.
fn changes_request(route: &Route) -> bool {
    !(route.rewrite.is_nothing() && route.request_headers.is_nothing())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs is mostly these; the goal is 2 KiB with its socket.
    #[test]
    fn an_idle_connection_is_small() {
        fn size<F, A>(_: impl FnOnce(A) -> F) -> usize {
            std::mem::size_of::<F>()
        }
        type Accepted = (Rc<Reactor>, Rc<Listener>, crate::socket::Socket);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let ends = (address, address);
        let future =
            size(|(a, b, c): Accepted| crate::connection::serve(a, b, c, ends, [0_usize; 3]));
        let client = std::mem::size_of::<Client>();
        assert!(future + client <= 864, "{future} and {client}");
    }
}
