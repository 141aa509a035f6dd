//! The transaction layer: all transactions of one core, matched by their keys, bounded in number, with one clock. `F` is the
//! core's way to a peer (listener and address, or connection).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use super::key::{ClientKey, MergeKey, ServerKey};
use super::{ClientEvent, ClientTransaction, ServerEvent, ServerTransaction, Timers, cancel_for};
use crate::message::{Request, Response};
use crate::method::Method;

/// A way to a peer.
pub trait Flow: Clone {
    /// Who shares transactions: a message from another scope never matches, whatever its branch says.
    type Scope: Ord + Clone;

    /// The scope of this way.
    fn scope(&self) -> Self::Scope;

    /// Whether its transport delivers for sure.
    fn is_reliable(&self) -> bool;
}

/// Number of a client transaction; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// Number of a server transaction; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(u64);

/// How many transactions there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerLimits {
    /// Client transactions.
    pub clients: usize,
    /// Server transactions.
    pub servers: usize,
}

impl Default for LayerLimits {
    fn default() -> Self {
        Self {
            clients: 50_000,
            servers: 50_000,
        }
    }
}

/// There are as many transactions as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("transaction table full")]
pub struct TableFull;

/// Octets to send.
#[derive(Clone, Debug)]
pub struct Transmit<F> {
    /// By which way.
    pub flow: F,
    /// The message.
    pub octets: Arc<[u8]>,
}

/// What became of a request that came in.
#[derive(Debug)]
pub enum Inbound {
    /// A new request, to be answered by its number.
    Request(ServerId, Box<Request>),
    /// A CANCEL, to be answered by its number, and the INVITE that it is for, if there is one.
    Cancel(ServerId, Option<ServerId>, Box<Request>),
    /// An ACK that belongs to no transaction: for a 2xx, to be matched to its dialog.
    Ack(Box<Request>),
    /// Taken in: a retransmission, or an ACK for a refusal.
    Absorbed,
    /// The same request came by another way: 482. RFC 3261 §8.2.2.2.
    Merged(ServerId, Box<Request>),
    /// No room for another transaction.
    Full(Box<Request>),
}

/// What became of a response that came in.
#[derive(Debug)]
pub enum Outcome {
    /// It is for the user of this transaction.
    Response(ClientId, Box<Response>),
    /// Taken in: a retransmission.
    Absorbed,
    /// It belongs to nothing that was asked, and is thrown away.
    Stray,
}

/// What transactions say besides messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// See [`ClientEvent`]; after [`ClientEvent::Terminated`] the number means nothing.
    Client(ClientId, ClientEvent),
    /// See [`ServerEvent`]; after [`ServerEvent::Terminated`] the number means nothing.
    Server(ServerId, ServerEvent),
}

struct Client<F> {
    machine: ClientTransaction,
    flow: F,
    key: ClientKey,
    due: Option<Instant>,
}

struct Server<F: Flow> {
    machine: ServerTransaction,
    flow: F,
    key: (F::Scope, ServerKey),
    merge_key: Option<MergeKey>,
    due: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Client(ClientId),
    Server(ServerId),
}

/// All transactions.
pub struct Layer<F: Flow> {
    limits: LayerLimits,
    timers: Timers,
    next: u64,
    clients: BTreeMap<ClientId, Client<F>>,
    client_keys: BTreeMap<ClientKey, ClientId>,
    servers: BTreeMap<ServerId, Server<F>>,
    server_keys: BTreeMap<(F::Scope, ServerKey), ServerId>,
    merge_keys: BTreeMap<MergeKey, ServerId>,
    clock: BTreeSet<(Instant, Id)>,
    transmits: VecDeque<Transmit<F>>,
    events: VecDeque<Event>,
}

impl<F: Flow> Layer<F> {
    /// No transactions yet.
    #[must_use]
    pub const fn new(limits: LayerLimits, timers: Timers) -> Self {
        Self {
            limits,
            timers,
            next: 0,
            clients: BTreeMap::new(),
            client_keys: BTreeMap::new(),
            servers: BTreeMap::new(),
            server_keys: BTreeMap::new(),
            merge_keys: BTreeMap::new(),
            clock: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Client and server transactions under way.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.clients.len(), self.servers.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Sends a request whose top Via has a branch of its own. Fails if there is no room; a branch used twice is the
    /// caller's fault and counts as no room.
    pub fn request(
        &mut self,
        now: Instant,
        request: Request,
        flow: F,
    ) -> Result<ClientId, TableFull> {
        let key = request
            .top_via()
            .and_then(|via| ClientKey::new(via, &request.method))
            .ok_or(TableFull)?;
        if self.clients.len() >= self.limits.clients || self.client_keys.contains_key(&key) {
            return Err(TableFull);
        }
        let id = ClientId(self.number());
        let machine = ClientTransaction::new(now, request, flow.is_reliable(), self.timers);
        self.client_keys.insert(key.clone(), id);
        self.clients.insert(
            id,
            Client {
                machine,
                flow,
                key,
                due: None,
            },
        );
        self.settle_client(id);
        Ok(id)
    }

    /// Takes an INVITE back: CANCEL goes out as soon as it may. The final response to the INVITE still comes.
    pub fn cancel(&mut self, now: Instant, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.machine.cancel(now);
        }
        self.drain_cancel(now, id);
    }

    /// Sends a response in a server transaction. `false`: it is over, or its state does not allow it.
    pub fn respond(&mut self, now: Instant, id: ServerId, response: &Response) -> bool {
        let sent = self
            .servers
            .get_mut(&id)
            .is_some_and(|server| server.machine.respond(now, response));
        self.settle_server(id);
        sent
    }

    /// The request of a server transaction and the way that it came.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<(&Request, &F)> {
        self.servers
            .get(&id)
            .map(|server| (server.machine.request(), &server.flow))
    }

    /// Forgets a server transaction without a word: its sender gets no answer, its retransmissions count as new.
    pub fn forget(&mut self, id: ServerId) {
        self.remove_server(id);
    }

    /// A request came in.
    pub fn handle_request(&mut self, now: Instant, request: Box<Request>, flow: F) -> Inbound {
        let Some(key) = ServerKey::new(&request) else {
            return Inbound::Absorbed;
        };
        let key = (flow.scope(), key);
        if let Some(id) = self.matching(&key, &request) {
            return self.handle_again(now, id, request);
        }
        if request.method == Method::Ack {
            return Inbound::Ack(request);
        }
        if self.servers.len() >= self.limits.servers {
            return Inbound::Full(request);
        }
        self.open(now, request, flow, key)
    }

    /// The transaction of a request. By the rules of RFC 2543 an ACK has the tag of the response in its To, which the
    /// INVITE may not have had. RFC 3261 §17.2.3.
    fn matching(&self, key: &(F::Scope, ServerKey), request: &Request) -> Option<ServerId> {
        let Some(without) = ServerKey::without_to_tag(request) else {
            return self.server_keys.get(key).copied();
        };
        let keys = [key.clone(), (key.0.clone(), without)];
        let id = keys
            .iter()
            .find_map(|key| self.server_keys.get(key))
            .copied()?;
        let tag = self.servers.get(&id)?.machine.to_tag();
        (tag == request.headers.to.tag()).then_some(id)
    }

    fn handle_again(&mut self, now: Instant, id: ServerId, request: Box<Request>) -> Inbound {
        let Some(server) = self.servers.get_mut(&id) else {
            return Inbound::Absorbed;
        };
        if request.method != Method::Ack {
            server.machine.handle_retransmission();
        } else if server.machine.state() == super::ServerState::Accepted {
            // The sender of an ACK for a 2xx should have taken a fresh branch; the dialog will know it all the same.
            return Inbound::Ack(request);
        } else {
            server.machine.handle_ack(now);
        }
        self.settle_server(id);
        Inbound::Absorbed
    }

    fn open(
        &mut self,
        now: Instant,
        request: Box<Request>,
        flow: F,
        key: (F::Scope, ServerKey),
    ) -> Inbound {
        let invite = match request.method {
            Method::Cancel => ServerKey::of_invite(&request)
                .and_then(|invite| self.server_keys.get(&(key.0.clone(), invite)).copied()),
            _ => None,
        };
        let merge_key = MergeKey::new(&request);
        let merged = merge_key
            .as_ref()
            .is_some_and(|key| self.merge_keys.contains_key(key));
        let id = ServerId(self.number());
        let machine =
            ServerTransaction::new(now, (*request).clone(), flow.is_reliable(), self.timers);
        self.server_keys.insert(key.clone(), id);
        let merge_key = merge_key.filter(|_| !merged);
        if let Some(key) = &merge_key {
            self.merge_keys.insert(key.clone(), id);
        }
        self.servers.insert(
            id,
            Server {
                machine,
                flow,
                key,
                merge_key,
                due: None,
            },
        );
        self.settle_server(id);
        match request.method {
            Method::Cancel => Inbound::Cancel(id, invite, request),
            _ if merged => Inbound::Merged(id, request),
            _ => Inbound::Request(id, request),
        }
    }

    /// A response came in.
    pub fn handle_response(&mut self, now: Instant, response: Box<Response>, flow: &F) -> Outcome {
        // RFC 3261 §8.1.3.3: more than one Via means that it is not for us.
        let key = match response.vias() {
            [top] => ClientKey::new(top, &response.headers.cseq.method),
            _ => None,
        };
        let Some(id) = key.and_then(|key| self.client_keys.get(&key).copied()) else {
            return Outcome::Stray;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return Outcome::Stray;
        };
        let sent = client.machine.request();
        let same = client.flow.scope() == flow.scope()
            && sent.headers.cseq.number == response.headers.cseq.number
            && sent.headers.call_id == response.headers.call_id
            && sent.headers.from.tag() == response.headers.from.tag();
        if !same {
            return Outcome::Stray;
        }
        let passed = client.machine.handle_response(now, &response);
        self.drain_cancel(now, id);
        if passed {
            Outcome::Response(id, response)
        } else {
            Outcome::Absorbed
        }
    }

    /// A request could not be sent.
    pub fn handle_client_unreachable(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.machine.handle_unreachable();
        }
        self.settle_client(id);
    }

    /// A response could not be sent.
    pub fn handle_server_unreachable(&mut self, id: ServerId) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.machine.handle_unreachable();
        }
        self.settle_server(id);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, id)) = self.clock.first().copied().filter(|(due, _)| *due <= now) {
            self.clock.remove(&(due, id));
            match id {
                Id::Client(id) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.due = None;
                        client.machine.handle_timeout(now);
                    }
                    self.settle_client(id);
                }
                Id::Server(id) => {
                    if let Some(server) = self.servers.get_mut(&id) {
                        server.due = None;
                        server.machine.handle_timeout(now);
                    }
                    self.settle_server(id);
                }
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.clock.first().map(|(due, _)| *due)
    }

    /// Octets to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit<F>> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    const fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Sends the CANCEL that has become due.
    fn drain_cancel(&mut self, now: Instant, id: ClientId) {
        let Some((true, flow, cancel)) = self.clients.get_mut(&id).map(|client| {
            let may = client.machine.take_may_cancel();
            (
                may,
                client.flow.clone(),
                cancel_for(client.machine.request()),
            )
        }) else {
            self.settle_client(id);
            return;
        };
        self.settle_client(id);
        // Without room for it the INVITE ends by its own timer.
        let _ = self.request(now, cancel, flow);
    }

    fn settle_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        while let Some(octets) = client.machine.poll_transmit() {
            self.transmits.push_back(Transmit {
                flow: client.flow.clone(),
                octets,
            });
        }
        let mut over = false;
        while let Some(event) = client.machine.poll_event() {
            over |= event == ClientEvent::Terminated;
            self.events.push_back(Event::Client(id, event));
        }
        let due = client.machine.poll_timeout();
        reschedule(&mut self.clock, Id::Client(id), &mut client.due, due);
        if let Some(client) = over.then(|| self.clients.remove(&id)).flatten() {
            self.client_keys.remove(&client.key);
        }
    }

    fn settle_server(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        while let Some(octets) = server.machine.poll_transmit() {
            self.transmits.push_back(Transmit {
                flow: server.flow.clone(),
                octets,
            });
        }
        let mut over = false;
        while let Some(event) = server.machine.poll_event() {
            over |= event == ServerEvent::Terminated;
            self.events.push_back(Event::Server(id, event));
        }
        let due = server.machine.poll_timeout();
        reschedule(&mut self.clock, Id::Server(id), &mut server.due, due);
        if over {
            self.remove_server(id);
        }
    }

    fn remove_server(&mut self, id: ServerId) {
        let Some(server) = self.servers.remove(&id) else {
            return;
        };
        if let Some(due) = server.due {
            self.clock.remove(&(due, Id::Server(id)));
        }
        self.server_keys.remove(&server.key);
        if let Some(key) = server.merge_key {
            self.merge_keys.remove(&key);
        }
    }
}

fn reschedule(
    clock: &mut BTreeSet<(Instant, Id)>,
    id: Id,
    have: &mut Option<Instant>,
    due: Option<Instant>,
) {
    if *have == due {
        return;
    }
    if let Some(old) = have.take() {
        clock.remove(&(old, id));
    }
    if let Some(new) = due {
        clock.insert((new, id));
    }
    *have = due;
}
